"""Wake-ups between nodes, as msgpack arrays: [partition, [action names], after_ms or nil]. Pure.

The action names are those with new work in the partition, `after_ms` is when an early timer of it is due. A wake-up
about ANY_PARTITION says that leases were released. Everything that arrives is checked, as anybody may have sent it.
"""

from __future__ import annotations

import msgpack

#: Fits into one datagram, with the header of the gossip.
WAKEUP_BYTES_MAX = 1_000
#: No timer is further away: about 300,000 years.
AFTER_MS_MAX = 10**16
ANY_PARTITION = -1


def pack(*fields: object) -> bytes | None:
    """A message of these fields; None: it is too long for a datagram."""
    packed: bytes = msgpack.packb(list(fields))
    return packed if len(packed) <= WAKEUP_BYTES_MAX else None


def unpack(message: bytes) -> list[object]:
    """The fields of a message of another node; none if it is malformed."""
    try:
        fields = msgpack.unpackb(message, max_map_len=0, max_ext_len=0)
    except (ValueError, TypeError, msgpack.UnpackException):
        return []
    return fields if type(fields) is list else []


def as_wakeup(fields: list[object]) -> tuple[int, list[str], int | None] | None:
    """(partition, action names, after_ms) with their types checked; None: these fields are no wake-up."""
    if len(fields) != 3:
        return None
    partition, names, after_ms = fields
    if type(partition) is not int or type(names) is not list or any(type(name) is not str for name in names):
        return None
    if after_ms is not None and (type(after_ms) is not int or not -AFTER_MS_MAX <= after_ms <= AFTER_MS_MAX):
        return None
    return partition, names, after_ms
