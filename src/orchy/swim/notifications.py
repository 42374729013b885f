"""Events for the application: the outputs of the machine that are not for the network. Frozen values."""

from __future__ import annotations

import attrs

from orchy.swim.records import Address, Record


@attrs.frozen
class Joined:
    """A new member is alive."""

    member: Record


@attrs.frozen
class Changed:
    """A member changed its metadata or address."""

    member: Record


@attrs.frozen
class Suspected:
    """A member did not answer `source`. It still counts as live."""

    member: Record
    source: str


@attrs.frozen
class AliveAgain:
    """A suspected member objected."""

    member: Record


@attrs.frozen
class Died:
    """A member is dead; `source` was the first to say so. `witnessed`: this member has seen the evidence itself."""

    member: Record
    source: str
    witnessed: bool = False


@attrs.frozen
class Witnessed:
    """After a death that was only heard of: by now this member has seen the evidence itself."""

    member: Record


@attrs.frozen
class Left:
    """A member left."""

    member: Record


@attrs.frozen
class NameTaken:
    """A live node at `address` has this node's name. The machine has stopped."""

    address: Address


@attrs.frozen
class JoinRefused:
    """The process at `address` is no member of this cluster; `label` is the label of its own.

    `opened`: its answer could be opened with this member's keys; if not, it has others, or is something else.
    """

    address: Address
    label: str
    opened: bool = False


@attrs.frozen
class JoinUnanswered:
    """The process at `address` closed the stream without an answer: other keys, another cluster, or overload."""

    address: Address


@attrs.frozen
class NameClaimed:
    """A process at `address` is said to have this member's name. This member keeps it, with a higher incarnation."""

    address: Address


@attrs.frozen
class Unvouched:
    """A member that is not vouched for yet: it waits."""

    member: Record


@attrs.frozen
class Implausible:
    """A message was dropped: its incarnation is further ahead than any clock can be."""

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
