"""The table of members: the newest belief about each, and whom to contact next."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import blake2b

import attrs

from orchy.swim.messages import Record, State
from orchy.swim.order import Order
from orchy.swim.parameters import MEMBERS_MAX


@attrs.frozen
class Snapshot:
    """A table to start from. Many tables may share one: each stores only its own changes."""

    records: Mapping[str, Record] = attrs.field(factory=dict)
    order: Sequence[str] = ()
    live: int = 0
    digest: int = 0


def snapshot(records: Sequence[Record]) -> Snapshot:
    """The table of a cluster whose members are all alive and know each other."""
    assert all(record.state.live for record in records)
    return Snapshot(
        {record.name: record for record in records},
        tuple(record.name for record in records),
        len(records),
        sum(map(_hash, records)) % 2**64,
    )


class Members:
    """Beliefs about all members, this one included."""

    def __init__(self, name: str, base: Snapshot, choose: random.Random) -> None:
        self._name = name
        self._base = base.records
        self._own: dict[str, Record] = {}
        self._choose = choose
        self._order = Order(base.order)
        self._unlisted: set[str] = set()
        self._gone_at: dict[str, float] = {}
        #: How many live members there are, this one included.
        self.live = base.live
        #: Equal on members whose live members are the same.
        self.digest = base.digest

    def get(self, name: str) -> Record | None:
        """What is believed of it."""
        return self._own.get(name) or self._base.get(name)

    def __iter__(self) -> Iterator[Record]:
        yield from self._own.values()
        for name, record in self._base.items():
            if name not in self._own:
                yield record

    def __len__(self) -> int:
        return len(self._own) + sum(name not in self._own for name in self._base)

    @property
    def full(self) -> bool:
        """Whether there is no space for a new member."""
        return len(self._own) >= MEMBERS_MAX

    def put(self, record: Record, now: float) -> None:
        """Replace the belief about a member."""
        name = record.name
        known = self.get(name)
        if known is not None and known.state.live:
            self.live -= 1
            self.digest = (self.digest - _hash(known)) % 2**64
        if record.state.live:
            self.live += 1
            self.digest = (self.digest + _hash(record)) % 2**64
            self._gone_at.pop(name, None)
            if known is None or name in self._unlisted:
                self._unlisted.discard(name)
                self._order.append(name)
        else:
            self._gone_at.setdefault(name, now)
            if known is None:
                self._unlisted.add(name)
        self._own[name] = record

    def forget(self, before: float) -> None:
        """Drop those that were gone before this time."""
        for name in [name for name, gone_at in self._gone_at.items() if gone_at < before]:
            if name in self._unlisted and name not in self._base:  # otherwise the probe order must drop it first
                del self._own[name], self._gone_at[name]
                self._unlisted.discard(name)

    def gone(self, state: State, since: float = float("-inf")) -> list[Record]:
        """Members in the given state (dead or left) that went at or after `since`."""
        found = (self.get(name) for name, gone_at in self._gone_at.items() if gone_at >= since)
        return [record for record in found if record is not None and record.state is state]

    # Choosing members.

    def next_target(self) -> Record | None:
        """The next live member to be probed."""
        for _ in range(3):  # this member has turns as well: at worst the last of a round and the first of the next
            name = self._order.next(self._keep, self._choose)
            if name is not None and name != self._name:
                return self.get(name)
        return None

    def sample(self, count: int, wanted: Callable[[Record], bool], extra: Sequence[Record] = ()) -> list[Record]:
        """Up to `count` different random members, of the live ones and `extra`, without this one."""
        order, listed = self._order, len(self._order)
        size = listed + len(extra)
        if size <= _SMALL:
            names = [order[place] for place in range(listed)]
            all_of_them = [record for name in names if (record := self.get(name)) and record.state.live]
            pool = [record for record in (*all_of_them, *extra) if record.name != self._name and wanted(record)]
            return pool if len(pool) <= count else self._choose.sample(pool, count)
        found: list[Record] = []
        for _ in range(_TRIES * count):
            place = int(self._choose.random() * size)
            record = self.get(order[place]) if place < listed else extra[place - listed]
            live = record is not None and (record.state.live or place >= listed)
            if record and live and record.name != self._name and record not in found and wanted(record):
                found.append(record)
                if len(found) == count:
                    break
        return found

    def _keep(self, name: str) -> bool:
        record = self._own.get(name) or self._base.get(name)
        if record is not None and record.state.live:
            return True
        if record is not None:
            self._unlisted.add(name)
        return False


#: Up to so many members, a sample is drawn from a list of the wanted ones; above, by random tries.
_SMALL = 16
_TRIES = 12


def _hash(record: Record) -> int:
    """Without the state: suspicions come and go, and need no sync."""
    host, port = record.address
    text = f"{record.name}\0{record.incarnation}\0{host}\0{port}\0".encode() + record.meta
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big")
