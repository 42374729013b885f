"""The store on Redis: each method is one script, or one read.

Methods over several partitions are one call on a standalone server, and one for each partition, pipelined, on a
cluster, where each partition has a slot of its own. So they are atomic for each partition, not over all of them.

Each call says whether it may be repeated when its reply is lost (`safe`), and why, where that is not obvious.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Any

from orchy.errors import StoreError, TimerMoved, VersionConflict
from orchy.flow.runs import RunId, parse_run
from orchy.runtime.gather import gather
from orchy.store.flows import OWN_FIELDS, Commit, Committed, HistoryEntry, ListedFlow, Listing, StoredFlow
from orchy.store.leases import Lease, Owner
from orchy.store.limits import BATCH_MAX, CLAIM_BYTES_MAX
from orchy.store.nodes import RegisteredNode
from orchy.store.quarantine import parse_quarantine
from orchy.store.queues import Claimed, HandOut, QueueEntry, Receipt
from orchy.store.redis import scripts
from orchy.store.redis.client import Script
from orchy.store.redis.connection import Argument
from orchy.store.redis.definitions import RedisDefinitions
from orchy.store.timers import DueTimer, PartitionScan, TimerKey, TimerSetting

#: The most queue entries that a claim drops or parks on its way to those that count.
PASSED_OVER_MAX = 200
#: The most partitions of one call, and the most history entries that one reads: a long call would hold up others.
PARTITIONS_PER_CALL = 128
HISTORY_ENTRIES_PER_CALL = 1_000
#: How many workers' names are cached in the form that histories have.
WORKERS_KNOWN_MAX = 1_000


class RedisStore(RedisDefinitions):
    """All of `store.ports`, for one namespace."""

    # Flows.

    async def commit(self, commit: Commit) -> Committed:
        keys, args = self._commit_arguments(commit)
        # Not safe: had it been applied, the repetition would be a version conflict.
        return _parse_committed(commit, await self._redis.script(scripts.COMMIT, keys, args, safe=False))

    async def commit_all(self, commits: Sequence[Commit]) -> list[Committed | StoreError]:
        replies = await self._redis.script_each(scripts.COMMIT, [self._commit_arguments(one) for one in commits])
        outcomes: list[Committed | StoreError] = []
        for commit, reply in zip(commits, replies, strict=True):
            try:
                outcomes.append(reply if isinstance(reply, StoreError) else _parse_committed(commit, reply))
            except VersionConflict as conflict:
                outcomes.append(conflict)
        return outcomes

    def _commit_arguments(self, commit: Commit) -> tuple[list[bytes], list[Argument]]:
        assert OWN_FIELDS.isdisjoint(commit.fields), f"fields of the store's own: {commit.fields}"
        args: list[Argument] = [
            commit.flow_id,
            commit.workflow,
            commit.expected_version,
            commit.listed_before or "",
            commit.listed_after,
            "" if commit.retain_ms is None else commit.retain_ms,
            int(commit.unpark),
            len(commit.fields),
            len(commit.removed_fields),
            len(commit.history),
            len(commit.enqueue),
            len(commit.set_timers),
            len(commit.cancel_timers),
            len(commit.fired_timers),
        ]
        for name, value in commit.fields.items():
            args += (name, value)
        args += commit.removed_fields
        args += commit.history
        for entry in commit.enqueue:
            if entry.worker is None:
                args += ("", 0, entry.action_name, _head(commit, entry) + entry.body)
            else:  # handed out now, so its body need not be stored
                line = f'["H",{entry.action_id},{entry.attempt},{_quoted(entry.worker)}]'
                member = f":{entry.action_id}:{entry.attempt}:{commit.flow_id}"
                args += (line, entry.lease_ms, entry.timeout_ms, member)
        for timer in commit.set_timers:
            args += (timer.after_ms, str(timer.key))
        args += map(str, commit.cancel_timers)
        args += map(str, commit.fired_timers)
        return [self._keys.partition(commit.partition)], args

    async def load(self, partition: int, flow_id: str) -> StoredFlow | None:
        key = self._keys.flow(partition, flow_id)
        reply = await self._redis.execute("HGETALL", key, key=key, safe=True)
        if not reply:
            return None
        fields = {name.decode(): value for name, value in zip(reply[::2], reply[1::2], strict=True)}
        ended = fields.pop("z", None)
        fields.pop("b", None)
        quarantine = parse_quarantine(fields.pop("u", b""))
        ended_ms = None if ended is None else int(ended)
        return StoredFlow(int(fields.pop("v")), fields, int(fields.pop("c")), ended_ms, quarantine)

    async def history(self, partition: int, flow_id: str, start: int, limit: int) -> list[HistoryEntry] | None:
        key = self._keys.history(partition, flow_id)
        entries: list[HistoryEntry] = []
        while wanted := min(limit - len(entries), HISTORY_ENTRIES_PER_CALL):
            first = start + len(entries)
            reply = await self._redis.execute("LRANGE", key, first, first + wanted - 1, key=key, safe=True)
            for line in reply:
                time_ms, _, entry = line.partition(b" ")
                entries.append(HistoryEntry(int(time_ms), entry))
            if len(reply) < wanted:
                break
        if not entries:
            flow = self._keys.flow(partition, flow_id)
            if not await self._redis.execute("EXISTS", flow, key=flow, safe=True):
                return None
        return entries

    async def claim(
        self, action_name: str, partitions: Sequence[int], limit: int, worker_id: str, lease_ms: int = 0
    ) -> Claimed:
        bodies: list[bytes] = []
        emptied: list[int] = []
        receipts: list[Receipt] = []
        # One after the other on a cluster: how many are still wanted depends on what was got.
        for group in [partitions] if not self._redis.is_cluster else [[p] for p in partitions]:
            wanted = min(limit, BATCH_MAX) - len(bodies)
            bytes_left = CLAIM_BYTES_MAX - sum(map(len, bodies))
            if wanted <= 0 or bytes_left <= 0:
                break
            args: list[Argument] = [action_name, wanted, json.dumps(worker_id), PASSED_OVER_MAX, bytes_left, lease_ms]
            # Not safe: the attempts of a lost reply are with nobody until their timeout, and it would take more.
            reply = await self._redis.script(scripts.CLAIM, self._prefixes(group), args, safe=False)
            got, empty, heads, places, soonest = reply
            bodies += got
            emptied += (group[index - 1] for index in empty)
            for index, head in zip(places, heads, strict=True):
                flow_id, action_id, attempt, timeout_ms, _ = head.split(b":", 4)
                which = (flow_id.decode(), parse_run(action_id.decode()), int(attempt))
                receipts.append(Receipt(group[index - 1], head, soonest + int(timeout_ms), *which))
        return Claimed(bodies, emptied, receipts)

    async def give_back(self, claimed: Claimed) -> int:
        entries: dict[int, list[tuple[int, bytes, int]]] = {}
        for body, receipt in zip(claimed.bodies, claimed.receipts, strict=True):
            group = receipt.partition if self._redis.is_cluster else 0
            entries.setdefault(group, []).append((receipt.partition, receipt.head + body, receipt.due_ms))
        given_back = 0
        for attempts in entries.values():
            args: list[Argument] = []
            for _, entry, due_ms in attempts:
                args += (entry, due_ms)
            prefixes = self._prefixes([partition for partition, _, _ in attempts])
            # Not safe: another worker may have claimed it meanwhile; a repetition would take it away.
            given_back += await self._redis.script(scripts.GIVE_BACK, prefixes, args, safe=False)
        return given_back

    async def extend(self, partition: int, timer: TimerSetting) -> bool:
        args: list[Argument] = [str(timer.key), timer.after_ms]
        # Safe: repeated, it moves the timer a little further.
        return bool(await self._redis.script(scripts.EXTEND, self._prefixes([partition]), args, safe=True))

    async def renew_attempts(self, partition: int, timers: Sequence[TimerKey], lease_ms: int) -> list[bool]:
        if not timers:
            return []
        args: list[Argument] = [lease_ms, *map(str, timers)]
        # Safe: repeated, it moves the timers a little further.
        reply = await self._redis.script(scripts.RENEW_ATTEMPTS, self._prefixes([partition]), args, safe=True)
        return [bool(found) for found in reply]

    async def last_hand_out(self, partition: int, flow_id: str, action_id: RunId, attempt: int) -> HandOut | None:
        args: list[Argument] = [flow_id, f'["H",{action_id},{attempt},']
        reply = await self._redis.script(scripts.LAST_HAND_OUT, self._prefixes([partition]), args, safe=True)
        return HandOut(json.loads(reply[0])[3], int(reply[1])) if reply else None

    async def scan(self, leases: Sequence[Lease], limit: int, lease_ms: int) -> list[PartitionScan]:
        # Safe: a timer whose reply is lost comes back after its lease.
        replies = await self._for_leases(scripts.SCAN, leases, [limit, lease_ms], safe=True)
        return [_parse_scan(lease.partition, reply) for lease, reply in zip(leases, replies, strict=True)]

    async def cancel_timers(self, partition: int, keys: Sequence[TimerKey]) -> None:
        if keys:
            await self._redis.script(scripts.CANCEL_TIMERS, self._prefixes([partition]), [*map(str, keys)], safe=True)

    async def list_flows(
        self,
        partition: int,
        listings: Sequence[Listing],
        workflow: str | None,
        limit: int,
        before: tuple[int, str] | None,
        quarantined: bool = False,
    ) -> list[ListedFlow]:
        where = ["quarantined"] if quarantined else listings
        args: list[Argument] = [limit, workflow or "", *(before or ("", "")), *where]
        reply = await self._redis.script(scripts.LIST, self._prefixes([partition]), args, safe=True)
        return [
            ListedFlow(
                flow_id.decode(), int(created), int(ended) if ended else None, meta, parse_quarantine(quarantine)
            )
            for flow_id, created, ended, meta, quarantine in reply
        ]

    async def quarantine(self, partition: int, flow_id: str, error: str, entry: bytes) -> bool:
        args: list[Argument] = [flow_id, error, entry]
        # Safe: the second time it is there already; the answer may then be False.
        return bool(await self._redis.script(scripts.QUARANTINE, self._prefixes([partition]), args, safe=True))

    async def release_flow(self, partition: int, flow_id: str, entry: bytes) -> bool | None:
        args: list[Argument] = [flow_id, entry]
        # Not safe: it could end a quarantine that was begun after it.
        reply = await self._redis.script(scripts.RELEASE_FLOW, self._prefixes([partition]), args, safe=False)
        return None if reply < 0 else bool(reply)

    async def expire(self, leases: Sequence[Lease], limit: int) -> int:
        # Safe: nothing is removed twice; the count may be too small.
        return sum(await self._in_groups(scripts.EXPIRE, leases, [limit], safe=True))

    # Leases.

    async def acquire(
        self, partitions: Sequence[int], node: str, lease_ms: int, instead_of: Collection[str] = ()
    ) -> list[Lease]:
        wanted = [Lease(partition, 0) for partition in partitions]
        # Safe: repeated, it acquires its own leases again, with higher epochs.
        args: list[Argument] = [node, lease_ms, *instead_of]
        epochs = await self._for_leases(scripts.ACQUIRE, wanted, args, safe=True, epochs=False)
        return [Lease(partition, int(epoch)) for partition, epoch in zip(partitions, epochs, strict=True) if epoch]

    async def renew(self, leases: Sequence[Lease], node: str, lease_ms: int) -> list[Lease]:
        kept = await self._for_leases(scripts.RENEW, leases, [node, lease_ms], safe=True)
        return [lease for lease, still in zip(leases, kept, strict=True) if still]

    async def release(self, leases: Sequence[Lease], node: str) -> None:
        await self._in_groups(scripts.RELEASE, leases, [node], safe=True)

    async def owners(self, partitions: Sequence[int]) -> list[Owner]:
        wanted = [Lease(partition, 0) for partition in partitions]
        replies = await self._for_leases(scripts.OWNERS, wanted, [], safe=True, epochs=False)
        return [
            Owner(partition, reply[0].decode(), int(reply[1]), int(reply[2]))
            for partition, reply in zip(partitions, replies, strict=True)
            if reply
        ]

    async def register(self, node: str, instance: str, address: str, lease_ms: int) -> list[RegisteredNode]:
        args: list[Argument] = [node, instance, address, lease_ms]
        reply = await self._redis.script(scripts.REGISTER, [self._keys.nodes()], args, safe=True)
        nodes = [
            RegisteredNode(name.decode(), instance.decode(), where.decode(), int(left))
            for name, instance, where, left in reply
        ]
        return sorted(nodes, key=lambda registered: registered.node)

    async def unregister(self, node: str, instance: str) -> None:
        await self._redis.script(scripts.UNREGISTER, [self._keys.nodes()], [node, instance], safe=True)

    # Several partitions.

    def _prefixes(self, partitions: Sequence[int]) -> list[bytes]:
        return [self._keys.partition(partition) for partition in partitions]

    async def _in_groups(
        self, script: Script, leases: Sequence[Lease], args: Sequence[Argument], *, safe: bool, epochs: bool = True
    ) -> list[Any]:
        """One answer for each call that is made; `epochs` says whether the script takes them."""

        async def call(group: Sequence[Lease]) -> Any:
            keys = self._prefixes([lease.partition for lease in group])
            checked = [lease.epoch for lease in group] if epochs else []
            return await self._redis.script(script, keys, [*args, *checked], safe=safe)

        size = 1 if self._redis.is_cluster else PARTITIONS_PER_CALL
        if 0 < len(leases) <= size:  # a single call needs no task
            return [await call(leases)]
        return await gather(call, [leases[first : first + size] for first in range(0, len(leases), size)])

    async def _for_leases(
        self, script: Script, leases: Sequence[Lease], args: Sequence[Argument], *, safe: bool, epochs: bool = True
    ) -> list[Any]:
        """One answer for each lease."""
        groups = await self._in_groups(script, leases, args, safe=safe, epochs=epochs)
        return [answer for group in groups for answer in group]


def _head(commit: Commit, entry: QueueEntry) -> bytes:
    """The first line of a queue entry, before the body."""
    head = f"{commit.flow_id}:{entry.action_id}:{entry.attempt}:{entry.timeout_ms}:{entry.action_name}\n"
    return head.encode()


@lru_cache(WORKERS_KNOWN_MAX)
def _quoted(worker: str) -> str:
    """A worker's name as a JSON string."""
    return json.dumps(worker)


def _parse_committed(commit: Commit, reply: Any) -> Committed:
    """The script's reply as a value. Raises VersionConflict, TimerMoved."""
    version, now = reply[:2]
    if version == -2:
        moved = [member.decode() for member in now]
        raise TimerMoved(f"timers of flow {commit.flow_id} were moved: {', '.join(moved)}", moved)
    if version < 0:
        raise VersionConflict(f"flow {commit.flow_id} is at version {now}, not {commit.expected_version}")
    _, _, unparked, soonest = reply
    receipts = tuple(
        Receipt(
            commit.partition,
            _head(commit, entry),
            soonest + entry.timeout_ms,
            commit.flow_id,
            entry.action_id,
            entry.attempt,
        )
        for entry in commit.enqueue
        if entry.worker is not None and commit.retain_ms != 0
    )
    return Committed(version, now, tuple(dict.fromkeys(name.decode() for name in unparked)), receipts)


def _parse_scan(partition: int, reply: Any) -> PartitionScan:
    if not reply[0]:
        return PartitionScan(partition, (), None, (), lease_lost=True)
    _, next_due, ready, due, now = reply
    timers = [
        DueTimer(partition, TimerKey.parse(member.decode()), int(now) - int(float(due_ms)))
        for member, due_ms in zip(due[::2], due[1::2], strict=True)
    ]
    names = [name.decode() for name in ready]
    return PartitionScan(partition, timers, int(next_due) if next_due else None, names, time_ms=int(now))
