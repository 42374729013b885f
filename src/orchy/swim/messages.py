"""What members say to each other, and what goes into the machine and comes out of it. Frozen values.

On the wire a message is a msgpack array `[type, ...]`. Fields at the end that this version does not know are
passed over, and so are messages of an unknown type: a newer version may add both.
"""

from __future__ import annotations

import enum

import attrs

#: (host, port). A host is an IP address, but in the seeds of a join, where a name is resolved at each try.
Address = tuple[str, int]


class State(enum.IntEnum):
    """What is believed of a member. The order is the order in which one belief beats another of one incarnation."""

    ALIVE = 0
    SUSPECT = 1
    DEAD = 2
    LEFT = 3

    @property
    def live(self) -> bool:
        """Whether it counts as there: a suspicion changes nothing yet."""
        return self < State.DEAD


@attrs.frozen
class Record:
    """All that is known of a member. `meta` is opaque and at most 512 bytes."""

    name: str
    incarnation: int
    state: State
    address: Address
    meta: bytes = b""

    def beats(self, other: Record) -> bool:
        """Whether this is newer. A total order, so that merging commutes, associates and repeats without harm."""
        return self._rank() > other._rank()

    def _rank(self) -> tuple[object, ...]:
        return self.incarnation, self.state, self.address, self.meta


def merge(one: Record, other: Record) -> Record:
    """The newer of two beliefs about one member."""
    return other if other.beats(one) else one


# Messages. The numbers are the wire's.


@attrs.frozen
class Ping:
    """Is it `target` who listens there? `source` asks."""

    seq: int
    target: str
    source: str


@attrs.frozen
class Ack:
    """Yes."""

    seq: int


@attrs.frozen
class Nack:
    """A relay has had no answer, but is well itself."""

    seq: int


@attrs.frozen
class IndirectPing:
    """Ping this one for me."""

    seq: int
    target: str
    address: Address
    source: str


@attrs.frozen
class Alive:
    """A full record of a member that lives."""

    record: Record


@attrs.frozen
class Suspect:
    """`source` has had no answer from `name`."""

    name: str
    incarnation: int
    source: str


@attrs.frozen
class Dead:
    """`name` is dead; if it says so itself, it left. `refused`: its host says that there is no such process."""

    name: str
    incarnation: int
    source: str
    refused: bool = False


@attrs.frozen
class Closed:
    """The host of `name` refuses what `source` sends there: look for yourself. `sure`: for long, and over TCP too."""

    name: str
    incarnation: int
    source: str
    sure: bool


@attrs.frozen
class User:
    """A message of the application, best effort."""

    source: str
    payload: bytes


@attrs.frozen
class Sync:
    """Over a stream: here is the digest of my table. `joining`: I only want to see yours."""

    digest: int
    joining: bool
    source: str


@attrs.frozen
class Same:
    """Our tables are the same."""


@attrs.frozen
class Table:
    """All that I know."""

    records: tuple[Record, ...]


@attrs.frozen
class Refused:
    """I do not talk with you; the envelope says who I am."""


Message = Ping | Ack | Nack | IndirectPing | Alive | Suspect | Dead | Closed | User | Sync | Same | Table | Refused


# Inputs of the machine.


@attrs.frozen
class Datagram:
    """A packet came."""

    source: Address
    data: bytes


@attrs.frozen
class Request:
    """A frame came on a stream that a peer opened; `stream` is the driver's number for it."""

    stream: int
    data: bytes


@attrs.frozen
class Answer:
    """A frame came on a stream that this machine asked for."""

    stream: int
    data: bytes


@attrs.frozen
class StreamFailed:
    """A stream that this machine asked for could not be opened, or ended without an answer in time.

    `refused`: the host answered that nobody listens on that port.
    """

    stream: int
    refused: bool = False


@attrs.frozen
class Unreachable:
    """A host answered to a datagram of this machine that nobody listens on that port (ICMP port unreachable)."""

    address: Address


@attrs.frozen
class Tick:
    """Time has passed."""


@attrs.frozen
class Join:
    """Become a member of the cluster that one of these belongs to; tried until one answers."""

    seeds: tuple[Address, ...]


@attrs.frozen
class Reconnect:
    """Addresses that a registry knows; one that is no live member is called at the next reconnect."""

    addresses: tuple[Address, ...]


@attrs.frozen
class Leave:
    """Say goodbye."""


@attrs.frozen
class SetMeta:
    """Say something else about this member from now on."""

    meta: bytes


@attrs.frozen
class Tell:
    """Send a message of the application to a member, one datagram, best effort."""

    name: str
    payload: bytes


Input = Datagram | Request | Answer | StreamFailed | Unreachable | Tick | Join | Reconnect | Leave | SetMeta | Tell


# Outputs of the machine.


@attrs.frozen
class Send:
    """Send a datagram."""

    address: Address
    data: bytes


@attrs.frozen
class Connect:
    """Open a stream, write a frame, read one."""

    stream: int
    address: Address
    data: bytes


@attrs.frozen
class Finish:
    """Write one more frame on a stream whose answer just came. Without it the stream is over with its answer."""

    stream: int
    data: bytes


@attrs.frozen
class Respond:
    """Write a frame on a peer's stream."""

    stream: int
    data: bytes


# Events, outputs for the application.


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
    """Who answers at `address` is no member of this cluster: `label` is what it calls its own."""

    address: Address
    label: str


@attrs.frozen
class Told:
    """A message of the application came."""

    source: str
    payload: bytes


Event = Joined | Changed | Suspected | AliveAgain | Died | Witnessed | Left | NameTaken | JoinRefused | Told
Output = Send | Connect | Finish | Respond | Event
