"""Messages <-> bytes. A body is a msgpack array of messages, a message an array `[type, ...]`.

Input is checked field by field here and nowhere else: past this file every message is well-formed, and every name
and host is short, printable ASCII, so that it may be logged. A frame of megabytes is read row by row, so that the sizes
that it claims cost nothing: a byte of msgpack can stand for an object of 64 bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import msgpack

from orchy.swim.messages import (
    Ack,
    Alive,
    AskStore,
    Closed,
    Dead,
    IndirectPing,
    Message,
    Nack,
    Ping,
    Record,
    Refused,
    Same,
    State,
    StoreAt,
    Suspect,
    Sync,
    Table,
    User,
)
from orchy.swim.parameters import (
    HOST_BYTES_MAX,
    INCARNATION_MAX,
    MEMBERS_MAX,
    META_BYTES_MAX,
    NAME_BYTES_MAX,
    STORE_BYTES_MAX,
)

PING, ACK, NACK, INDIRECT, ALIVE, SUSPECT, DEAD, USER, SYNC, SAME, TABLE, REFUSED, ASK_STORE, STORE_AT = range(1, 15)
CLOSED = 15
SEQ_MAX = 2**32 - 1
NONCE_MAX = 2**64 - 1
#: More messages than fit into one datagram: no honest packet has more.
MESSAGES_MAX = 1_024
#: A message of a later version may have more fields than ours, but not many.
FIELDS_MAX = 32
#: Bodies up to this size, all datagrams among them, are unpacked in one call: they can't hold more objects than bytes.
SMALL_BYTES = 2_048
_is_name = re.compile(rf"[!-~]{{1,{NAME_BYTES_MAX}}}").fullmatch
_HOST = re.compile(rf"[0-9A-Za-z.:%_-]{{0,{HOST_BYTES_MAX}}}")
_STORE = re.compile(rf"[ -~]{{1,{STORE_BYTES_MAX}}}")

_pack = msgpack.Packer(use_bin_type=True).pack
_unpackb = msgpack.unpackb


class Malformed(ValueError):
    """Bytes that are not messages."""


def encode(message: Message) -> bytes:
    """One message."""
    match message:
        case Ping(seq, target, source):
            packed: bytes = _pack((PING, seq, target, source))
        case Ack(seq):
            packed = _pack((ACK, seq))
        case Nack(seq):
            packed = _pack((NACK, seq))
        case IndirectPing(seq, target, (host, port), source):
            packed = _pack((INDIRECT, seq, target, host, port, source))
        case Alive(record):
            packed = _pack((ALIVE, *_fields(record)))
        case Suspect(name, incarnation, source):
            packed = _pack((SUSPECT, name, incarnation, source))
        case Dead(name, incarnation, source, refused):
            packed = _pack((DEAD, name, incarnation, source, *((True,) if refused else ())))
        case Closed(name, incarnation, source, sure):
            packed = _pack((CLOSED, name, incarnation, source, sure))
        case User(source, payload):
            packed = _pack((USER, source, payload))
        case Sync(digest, joining, source):
            packed = _pack((SYNC, digest, joining, source))
        case Same():
            packed = _pack((SAME,))
        case Table(records):
            packed = _pack((TABLE, [_fields(record) for record in records]))
        case Refused():
            packed = _pack((REFUSED,))
        case AskStore(nonce):
            packed = _pack((ASK_STORE, nonce))
        case StoreAt(nonce, store):
            packed = _pack((STORE_AT, nonce, store))
    return packed


def join(messages: Iterable[bytes]) -> bytes:
    """The body of a packet from encoded messages."""
    parts = tuple(messages)
    count = len(parts)
    if count == 1:
        return b"\x91" + parts[0]
    head = bytes([0x90 | count]) if count < 16 else b"\xdc" + count.to_bytes(2, "big")  # msgpack: fixarray, array 16
    return head + b"".join(parts)


def decode(body: bytes) -> list[Message]:
    """The messages of a body, without those of unknown types. Raises Malformed."""
    try:
        items = _unpackb(body, max_map_len=0, max_ext_len=0) if len(body) <= SMALL_BYTES else _unpack_rows(body)
    except Malformed:
        raise
    except Exception as error:  # msgpack raises many kinds of errors for invalid bytes
        raise Malformed(f"not msgpack: {error!r}") from None
    if type(items) is not list or len(items) > MESSAGES_MAX:
        raise Malformed("not a list of messages")
    messages: list[Message] = []
    for item in items:
        if type(item) is not list or not item or type(item[0]) is not int:
            raise Malformed("a message is a list that begins with its type")
        decoder = _DECODERS.get(item[0])
        if decoder is not None:
            try:
                messages.append(decoder(item))
            except (IndexError, TypeError, ValueError) as error:
                raise Malformed(f"message of type {item[0]}: {error}") from None
    return messages


def _unpack_rows(body: bytes) -> list[list[Any]]:
    """Like `unpackb`, for a body of any size, making no more objects than messages of this version may have."""
    unpacker = msgpack.Unpacker(use_list=True, max_buffer_size=len(body), max_array_len=0, max_map_len=0, max_ext_len=0)
    unpacker.feed(body)
    items: list[list[Any]] = []
    for _ in range(_length(unpacker, MESSAGES_MAX)):
        fields = _length(unpacker, FIELDS_MAX)
        item: list[Any] = [unpacker.unpack() for _ in range(min(fields, 1))]
        if item == [TABLE] and fields > 1:
            rows = _length(unpacker, MEMBERS_MAX)
            item.append([[unpacker.unpack() for _ in range(_length(unpacker, FIELDS_MAX))] for _ in range(rows)])
        item.extend(unpacker.unpack() for _ in range(fields - len(item)))
        items.append(item)
    if unpacker.tell() != len(body):
        raise Malformed("bytes behind the last message")
    return items


def _length(unpacker: msgpack.Unpacker, most: int) -> int:
    length: int = unpacker.read_array_header()
    if length > most:
        raise Malformed(f"an array of {length}, where at most {most} may be")
    return length


def _fields(record: Record) -> tuple[object, ...]:
    host, port = record.address
    return record.name, record.incarnation, int(record.state), host, port, record.meta


def _ping(item: list[Any]) -> Ping:
    _, seq, target, source = item[:4]
    return Ping(_whole(seq, SEQ_MAX), _name(target), _name(source))


def _indirect(item: list[Any]) -> IndirectPing:
    return IndirectPing(_whole(item[1], SEQ_MAX), _name(item[2]), _address(item[3], item[4]), _name(item[5]))


def _suspect(item: list[Any]) -> Suspect:
    return Suspect(_name(item[1]), _whole(item[2], INCARNATION_MAX), _name(item[3]))


def _dead(item: list[Any]) -> Dead:
    refused = len(item) > 4 and item[4] is True
    return Dead(_name(item[1]), _whole(item[2], INCARNATION_MAX), _name(item[3]), refused)


def _closed(item: list[Any]) -> Closed:
    if type(item[4]) is not bool:
        raise ValueError("sure is a boolean")
    return Closed(_name(item[1]), _whole(item[2], INCARNATION_MAX), _name(item[3]), item[4])


def _alive(item: list[Any]) -> Alive:
    record = _record(item[1:])
    if record.state is not State.ALIVE:
        raise ValueError("an alive message tells of a live member")
    return Alive(record)


def _table(item: list[Any]) -> Table:
    rows = item[1]
    if type(rows) is not list or len(rows) > MEMBERS_MAX:
        raise ValueError("a table is a list of records")
    return Table(tuple(_record(row) for row in rows))


def _sync(item: list[Any]) -> Sync:
    if type(item[2]) is not bool:
        raise ValueError("joining is a boolean")
    return Sync(_whole(item[1], NONCE_MAX), item[2], _name(item[3]))


def _record(row: list[Any]) -> Record:
    if type(row) is not list:
        raise ValueError("a record is a list")
    if not 6 <= len(row) <= FIELDS_MAX:
        raise ValueError("a record has six fields")
    name, incarnation, state, host, port, meta = row[:6]
    return Record(_name(name), _whole(incarnation, INCARNATION_MAX), State(state), _address(host, port), _meta(meta))


def _whole(value: Any, most: int) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError(f"a whole number from 0 to {most}")
    return value


def _name(value: Any) -> str:
    if type(value) is not str or _is_name(value) is None:
        raise ValueError("a name")
    return value


def _address(host: Any, port: Any) -> tuple[str, int]:
    if type(host) is not str or _HOST.fullmatch(host) is None:
        raise ValueError("a host")
    return host, _whole(port, 65_535)


def _meta(value: Any) -> bytes:
    if type(value) is not bytes or len(value) > META_BYTES_MAX:
        raise ValueError(f"metadata of at most {META_BYTES_MAX} bytes")
    return value


def _store(value: Any) -> str:
    if type(value) is not str or _STORE.fullmatch(value) is None:
        raise ValueError("where a store is")
    return value


def _payload(value: Any) -> bytes:
    if type(value) is not bytes:
        raise ValueError("a payload")
    return value


_DECODERS: dict[int, Callable[[list[Any]], Message]] = {
    PING: _ping,
    ACK: lambda item: Ack(_whole(item[1], SEQ_MAX)),
    NACK: lambda item: Nack(_whole(item[1], SEQ_MAX)),
    INDIRECT: _indirect,
    ALIVE: _alive,
    SUSPECT: _suspect,
    DEAD: _dead,
    CLOSED: _closed,
    USER: lambda item: User(_name(item[1]), _payload(item[2])),
    SYNC: _sync,
    SAME: lambda item: Same(),
    TABLE: _table,
    REFUSED: lambda item: Refused(),
    ASK_STORE: lambda item: AskStore(_whole(item[1], NONCE_MAX)),
    STORE_AT: lambda item: StoreAt(_whole(item[1], NONCE_MAX), _store(item[2])),
}
