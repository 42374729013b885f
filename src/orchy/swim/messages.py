"""What members say to each other, and what goes into the machine and comes out of it. Frozen values.

On the wire a message is a msgpack array `[type, ...]`. Fields at the end that this version does not know are
passed over, and so are messages of an unknown type: a newer version may add both.
"""

from __future__ import annotations

import attrs

from orchy.swim.notifications import Event
from orchy.swim.records import Address as Address
from orchy.swim.records import Record as Record
from orchy.swim.records import State as State
from orchy.swim.records import merge as merge

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


@attrs.frozen
class AskStore:
    """Over a stream, by one who has no store yet: where is yours? Sealed for the door, see `Introducer`."""

    nonce: int


@attrs.frozen
class StoreAt:
    """There. `nonce` is the question's."""

    nonce: int
    store: str


Message = (
    Ping
    | Ack
    | Nack
    | IndirectPing
    | Alive
    | Suspect
    | Dead
    | Closed
    | User
    | Sync
    | Same
    | Table
    | Refused
    | AskStore
    | StoreAt
)


# Inputs of the machine.


@attrs.frozen
class Datagram:
    """A packet came."""

    source: Address
    data: bytes


@attrs.frozen
class Request:
    """A frame came on a stream that a peer opened; `stream` is the driver's number for it. `local`: from this host."""

    stream: int
    data: bytes
    local: bool = False


@attrs.frozen
class Answer:
    """A frame came on a stream that this machine asked for."""

    stream: int
    data: bytes


@attrs.frozen
class StreamFailed:
    """A stream that this machine asked for could not be opened, or ended without an answer in time.

    `refused`: the host answered that nobody listens on that port. `hung_up`: it was opened, and the peer ended it.
    """

    stream: int
    refused: bool = False
    hung_up: bool = False


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
class Vouch:
    """What the machine's `vouched` says may have changed: ask it again about those that wait for it."""


@attrs.frozen
class SendUser:
    """Send a message of the application to a member, one datagram, best effort."""

    name: str
    payload: bytes


Input = (
    Datagram
    | Request
    | Answer
    | StreamFailed
    | Unreachable
    | Tick
    | Join
    | Reconnect
    | Leave
    | SetMeta
    | SendUser
    | Vouch
)


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
    """Write a frame on a peer's stream. `more`: the peer may send one more frame, a table."""

    stream: int
    data: bytes
    more: bool = False


Output = Send | Connect | Finish | Respond | Event
