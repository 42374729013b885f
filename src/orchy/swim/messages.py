"""Messages between members, and the inputs and outputs of the machine. Frozen values.

On the wire a message is a msgpack array `[type, ...]`. Unknown fields at the end are ignored, and so are messages of an
unknown type: a newer version may add both.
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
    """Asks whether `target` listens there; `source` is the asker."""

    seq: int
    target: str
    source: str


@attrs.frozen
class Ack:
    """The answer to a ping."""

    seq: int


@attrs.frozen
class Nack:
    """From a relay: no ack so far, but the relay itself is well."""

    seq: int


@attrs.frozen
class IndirectPing:
    """Asks a relay to ping `target`."""

    seq: int
    target: str
    address: Address
    source: str


@attrs.frozen
class Alive:
    """The record of a live member."""

    record: Record


@attrs.frozen
class Suspect:
    """`source` has had no answer from `name`."""

    name: str
    incarnation: int
    source: str


@attrs.frozen
class Dead:
    """`name` is dead; if `source` is the member itself, it left. `refused`: its host says that the process is gone."""

    name: str
    incarnation: int
    source: str
    refused: bool = False


@attrs.frozen
class Closed:
    """The host of `name` refuses packets of `source`: check it yourself. `sure`: for long, and over TCP as well."""

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
    """Over a stream: the digest of the asker's table. `joining`: only the peer's table is wanted."""

    digest: int
    joining: bool
    source: str


@attrs.frozen
class Same:
    """The two tables are equal."""


@attrs.frozen
class Table:
    """All records of a member."""

    records: tuple[Record, ...]


@attrs.frozen
class Refused:
    """The peer is not of this cluster; the envelope's label says which one this is."""


@attrs.frozen
class AskStore:
    """Over a stream, from a process that has no store yet: asks for its address. Sealed as `Introducer` says."""

    nonce: int


@attrs.frozen
class StoreAt:
    """The store's address. `nonce` is the question's."""

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
    """A frame came on a stream that a peer opened; `stream` is the driver's number. `local`: from this host."""

    stream: int
    data: bytes
    local: bool = False


@attrs.frozen
class Answer:
    """A frame came on a stream that this machine opened."""

    stream: int
    data: bytes


@attrs.frozen
class StreamFailed:
    """A stream of this machine could not be opened, or ended without an answer in time.

    `refused`: the host answered that nobody listens on that port. `hung_up`: it was opened, and the peer closed it.
    """

    stream: int
    refused: bool = False
    hung_up: bool = False


@attrs.frozen
class Unreachable:
    """A host answered a datagram of this machine with ICMP port unreachable."""

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
    """Addresses that a registry knows; those that are no live members are tried at the next reconnect."""

    addresses: tuple[Address, ...]


@attrs.frozen
class Leave:
    """Leave the cluster."""


@attrs.frozen
class SetMeta:
    """Change this member's metadata."""

    meta: bytes


@attrs.frozen
class Vouch:
    """The answers of the machine's `vouched` may have changed: ask it again about those that wait."""


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
    """Write one more frame on a stream whose answer just came. Without it the stream ends with its answer."""

    stream: int
    data: bytes


@attrs.frozen
class Respond:
    """Write a frame on a peer's stream. `more`: the peer may send one more frame, a table."""

    stream: int
    data: bytes
    more: bool = False


Output = Send | Connect | Finish | Respond | Event
