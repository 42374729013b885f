"""What a member is told of the others: outputs of the machine that are for the application. Frozen values."""

from __future__ import annotations

import attrs

from orchy.swim.records import Address, Record


@attrs.frozen
class Joined:
    """A member is there that was not."""

    member: Record


@attrs.frozen
class Changed:
    """A member says something else about itself."""

    member: Record


@attrs.frozen
class Suspected:
    """A member did not answer `source`. Nothing follows from it yet."""

    member: Record
    source: str


@attrs.frozen
class AliveAgain:
    """A suspected member objected."""

    member: Record


@attrs.frozen
class Died:
    """A member is dead, `source` was the first to say so. `witnessed`: by evidence that this member has seen itself."""

    member: Record
    source: str
    witnessed: bool = False


@attrs.frozen
class Witnessed:
    """What was only heard before: a member is dead, and by now this one has seen the evidence itself."""

    member: Record


@attrs.frozen
class Left:
    """A member said goodbye."""

    member: Record


@attrs.frozen
class NameTaken:
    """A live node at `address` has this node's name. The machine has stopped."""

    address: Address


@attrs.frozen
class JoinRefused:
    """Who answers at `address` is no member of this cluster: `label` is what it calls its own.

    `opened`: its answer was sealed as this member seals; if not, it has other keys, or is something else.
    """

    address: Address
    label: str
    opened: bool = False


@attrs.frozen
class JoinUnanswered:
    """Who listens at `address` ended the stream without a word: other keys, another cluster, or too busy."""

    address: Address


@attrs.frozen
class NameClaimed:
    """Somebody at `address` is said to have this member's name, which this member holds: it outbids that."""

    address: Address


@attrs.frozen
class Unvouched:
    """Nobody vouches for this one yet: it waits."""

    member: Record


@attrs.frozen
class Implausible:
    """What was said about a member has an incarnation that its clock can't have given it: dropped."""

    name: str
    incarnation: int


@attrs.frozen
class UserMessage:
    """A message of the application came."""

    source: str
    payload: bytes


Event = (
    Joined
    | Changed
    | Suspected
    | AliveAgain
    | Died
    | Witnessed
    | Left
    | NameTaken
    | JoinRefused
    | JoinUnanswered
    | NameClaimed
    | Unvouched
    | Implausible
    | UserMessage
)
