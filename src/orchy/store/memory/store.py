"""The reference store: plain dictionaries, for tests and the simulation. Clarity comes before speed.

It defines what the port means: the store on Redis is compared with it, call by call. Several nodes of one process may
share it. It is deterministic: the clock is the caller's, and nothing depends on the order of a set. Nothing outlives
the process.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Sequence

import trio
from msgspec.structs import replace

from orchy.errors import StoreError, TimerMoved, VersionConflict
from orchy.flow.effects import RecordType
from orchy.flow.events import TimerKind
from orchy.flow.execution import Phase
from orchy.flow.runs import RunId
from orchy.store.flows import (
    OWN_FIELDS,
    PAUSED_FIELD,
    RUNNING_FIELD_PREFIX,
    Commit,
    Committed,
    HistoryEntry,
    ListedFlow,
    Listing,
    StoredFlow,
)
from orchy.store.leases import Lease, Owner
from orchy.store.limits import BATCH_MAX, CLAIM_BYTES_MAX, HISTORY_BYTES_MAX, LONG_ENTRY_BYTES, REMEMBERED_MS
from orchy.store.memory.partition import Holder, KeptFlow, Partition, Queued
from orchy.store.memory.quarantine import MemoryQuarantine
from orchy.store.queues import Claimed, HandOut, Receipt
from orchy.store.timers import DueTimer, PartitionScan, TimerKey, TimerSetting


async def outcome_of(commit: Callable[[Commit], Awaitable[Committed]], one: Commit) -> Committed | StoreError:
    """The result of a commit, or the error that it raises."""
    try:
        return await commit(one)
    except StoreError as error:
        return error


class MemoryStore(MemoryQuarantine):
    """All of `store.ports`. `clock` returns seconds, and never goes back."""

    def __init__(self, clock: Callable[[], float], claim_bytes_max: int = CLAIM_BYTES_MAX) -> None:
        super().__init__(clock)
        self.claim_bytes_max = claim_bytes_max
        self._partitions: dict[int, Partition] = {}

    def _due_ms(self, after_ms: int) -> int:
        """When a timer that is set now is due, rounded up so that it is never early."""
        return math.ceil(round(self._clock() * 1_000_000) / 1000) + after_ms

    def _partition(self, partition: int) -> Partition:
        return self._partitions.setdefault(partition, Partition())

    # Flows.

    async def commit(self, commit: Commit) -> Committed:
        await trio.lowlevel.checkpoint()
        assert OWN_FIELDS.isdisjoint(commit.fields), f"fields of the store's own: {commit.fields}"
        partition = self._partition(commit.partition)
        flow = partition.flows.get(commit.flow_id)
        version = flow.version if flow else 0
        if version != commit.expected_version:
            raise VersionConflict(f"flow {commit.flow_id} is at version {version}, not {commit.expected_version}")
        now_ms = self._now_ms()
        if flow is None and partition.remembered.get(commit.flow_id, 0) > now_ms:
            raise VersionConflict(f"flow {commit.flow_id} was removed a short while ago")
        moved = [str(key) for key in commit.fired_timers if not partition.timers.get(key, 0) % 1]
        if moved:
            raise TimerMoved(f"timers of flow {commit.flow_id} were moved: {', '.join(moved)}", moved)
        partition.cancel(commit.cancel_timers)
        if commit.retain_ms == 0:
            partition.flows.pop(commit.flow_id, None)
            partition.remembered[commit.flow_id] = now_ms + REMEMBERED_MS
            return Committed(version + 1, now_ms)
        if flow is None:
            flow = partition.flows[commit.flow_id] = KeptFlow(commit.workflow, now_ms, commit.listed_after)
        flow.version += 1
        flow.listing = commit.listed_after
        flow.fields.update(commit.fields)
        for name in commit.removed_fields:
            flow.fields.pop(name, None)
        flow.history.extend(HistoryEntry(now_ms, entry) for entry in commit.history)
        flow.history_bytes += sum(len(entry) for entry in commit.history if len(entry) > LONG_ENTRY_BYTES)
        if commit.retain_ms is not None:
            flow.ended_ms = now_ms
            flow.remove_at_ms = now_ms + commit.retain_ms
            flow.parked.clear()
            flow.quarantine = None
            flow.set_aside.clear()
        receipts: list[Receipt] = []
        for entry in commit.enqueue:
            queued = Queued(commit.flow_id, entry)
            if entry.worker is None:
                partition.push(queued)
            else:
                self._note_handed_out(partition, flow, queued, entry.worker, entry.lease_ms)
                receipts.append(queued.receipt(commit.partition, partition))
        if flow.history_bytes > HISTORY_BYTES_MAX:
            flow.cut_history()
        for timer in commit.set_timers:
            partition.timers[timer.key] = self._due_ms(timer.after_ms) if timer.after_ms else now_ms
        unparked: dict[str, None] = {}
        if commit.unpark:
            for queued in flow.parked:
                partition.push(queued)
                unparked[queued.entry.action_name] = None
            flow.parked.clear()
        return Committed(flow.version, now_ms, tuple(unparked), tuple(receipts))

    async def commit_all(self, commits: Sequence[Commit]) -> list[Committed | StoreError]:
        return [await outcome_of(self.commit, commit) for commit in commits]

    async def load(self, partition: int, flow_id: str) -> StoredFlow | None:
        await trio.lowlevel.checkpoint()
        flow = self._partition(partition).flows.get(flow_id)
        if flow is None:
            return None
        return StoredFlow(flow.version, dict(flow.fields), flow.created_ms, flow.ended_ms, flow.quarantine)

    async def history(self, partition: int, flow_id: str, start: int, limit: int) -> list[HistoryEntry] | None:
        await trio.lowlevel.checkpoint()
        flow = self._partition(partition).flows.get(flow_id)
        return None if flow is None else list(flow.history)[start : start + limit]

    async def claim(
        self, action_name: str, partitions: Sequence[int], limit: int, worker_id: str, lease_ms: int = 0
    ) -> Claimed:
        await trio.lowlevel.checkpoint()
        limit = min(limit, BATCH_MAX)
        bodies: list[bytes] = []
        emptied: list[int] = []
        receipts: list[Receipt] = []
        for number in partitions:
            if len(bodies) >= limit or sum(map(len, bodies)) >= self.claim_bytes_max:
                break
            partition = self._partition(number)
            queue = partition.queues.get(action_name, deque())
            while queue and len(bodies) < limit and sum(map(len, bodies)) < self.claim_bytes_max:
                queued = queue.popleft()
                if self._hand_out(partition, queued, worker_id, lease_ms):
                    bodies.append(queued.entry.body)
                    receipts.append(queued.receipt(number, partition))
            if not queue:
                partition.queues.pop(action_name, None)
                emptied.append(number)
        return Claimed(bodies, emptied, receipts)

    async def give_back(self, claimed: Claimed) -> int:
        await trio.lowlevel.checkpoint()
        given_back = 0
        for body, receipt in reversed(list(zip(claimed.bodies, claimed.receipts, strict=True))):
            partition, queued = self._partition(receipt.partition), Queued.of(receipt.head, body)
            entry = queued.entry
            key = TimerKey(TimerKind.TIMEOUT, entry.action_id, entry.attempt, queued.flow_id)
            flow = partition.flows.get(queued.flow_id)
            if flow is None or partition.timers.get(key) != receipt.due_ms or receipt.due_ms <= self._now_ms():
                continue
            partition.cancel([key])
            partition.queues.setdefault(entry.action_name, deque()).appendleft(queued)
            line = f'["{RecordType.GIVEN_BACK}",{entry.action_id},{entry.attempt}]'
            flow.history.append(HistoryEntry(self._now_ms(), line.encode()))
            given_back += 1
        return given_back

    def _hand_out(self, partition: Partition, queued: Queued, worker_id: str, lease_ms: int) -> bool:
        """Hand out an entry; False if it was dropped as outdated, or parked as its flow is paused."""
        flow, entry = partition.flows.get(queued.flow_id), queued.entry
        if flow is None:
            return False
        running = flow.fields.get(f"{RUNNING_FIELD_PREFIX}{entry.action_id}", b"")
        if not running.startswith(f"{entry.attempt}:{Phase.QUEUED}".encode()):
            return False
        if PAUSED_FIELD in flow.fields:
            flow.parked.append(queued)
            return False
        self._note_handed_out(partition, flow, queued, worker_id, lease_ms)
        return True

    def _note_handed_out(
        self, partition: Partition, flow: KeptFlow, queued: Queued, worker_id: str, lease_ms: int
    ) -> None:
        entry = queued.entry
        key = TimerKey(TimerKind.TIMEOUT, entry.action_id, entry.attempt, queued.flow_id)
        partition.timers[key] = self._due_ms(entry.timeout_ms)
        if 0 < lease_ms < entry.timeout_ms:
            partition.timers[replace(key, kind=TimerKind.LOST)] = self._due_ms(lease_ms)
        line = f'["{RecordType.HANDED_OUT}",{entry.action_id},{entry.attempt},{json.dumps(worker_id)}]'
        flow.history.append(HistoryEntry(self._now_ms(), line.encode()))

    async def extend(self, partition: int, timer: TimerSetting) -> bool:
        await trio.lowlevel.checkpoint()
        timers = self._partition(partition).timers
        is_set = timers.get(timer.key, 0) > self._now_ms()
        if is_set:
            timers[timer.key] = self._due_ms(timer.after_ms)
        return is_set

    async def renew_attempts(self, partition: int, timers: Sequence[TimerKey], lease_ms: int) -> list[bool]:
        await trio.lowlevel.checkpoint()
        there = self._partition(partition).timers
        for key in timers:
            if key in there:
                there[key] = max(self._due_ms(lease_ms), math.floor(there[key]) + 1)
        return [key in there for key in timers]

    async def last_hand_out(self, partition: int, flow_id: str, action_id: RunId, attempt: int) -> HandOut | None:
        await trio.lowlevel.checkpoint()
        flow = self._partition(partition).flows.get(flow_id)
        for line in reversed(flow.history if flow else ()):
            entry = json.loads(line.entry)
            if entry[:3] == [RecordType.HANDED_OUT, action_id, attempt]:
                return HandOut(entry[3], max(0, self._now_ms() - line.time_ms))
        return None

    async def scan(self, leases: Sequence[Lease], limit: int, lease_ms: int) -> list[PartitionScan]:
        await trio.lowlevel.checkpoint()
        return [self._scan(lease, limit, lease_ms) for lease in leases]

    def _scan(self, lease: Lease, limit: int, lease_ms: int) -> PartitionScan:
        if not self._is_current(lease):
            return PartitionScan(lease.partition, (), None, (), lease_lost=True)
        partition, now_ms = self._partition(lease.partition), self._now_ms()
        earliest = sorted((due_ms, str(key), key) for key, due_ms in partition.timers.items() if due_ms <= now_ms)
        due = []
        for due_ms, _, key in earliest[:limit]:
            flow = partition.flows.get(key.flow_id)
            if flow is not None and flow.quarantine is not None:
                flow.set_aside.add(key)
                del partition.timers[key]
            else:
                due.append(DueTimer(lease.partition, key, now_ms - int(due_ms)))
        for timer in due:
            partition.timers[timer.key] = now_ms + lease_ms - 0.5
        next_due_ms = min(partition.timers.values(), default=None)
        return PartitionScan(
            lease.partition,
            due,
            None if next_due_ms is None else math.ceil(next_due_ms - now_ms),
            sorted(partition.queues),
            time_ms=now_ms,
        )

    async def cancel_timers(self, partition: int, keys: Sequence[TimerKey]) -> None:
        await trio.lowlevel.checkpoint()
        self._partition(partition).cancel(keys)

    async def list_flows(
        self,
        partition: int,
        listings: Sequence[Listing],
        workflow: str | None,
        limit: int,
        before: tuple[int, str] | None,
        quarantined: bool = False,
    ) -> list[ListedFlow]:
        await trio.lowlevel.checkpoint()
        places = sorted(
            (
                (flow.created_ms, flow_id)
                for flow_id, flow in self._partition(partition).flows.items()
                if (
                    flow.quarantine is not None
                    if quarantined
                    else flow.listing in listings and workflow in (None, flow.workflow)
                )
            ),
            reverse=True,
        )
        listed = []
        for place in [place for place in places if before is None or place < before][:limit]:
            flow = self._partition(partition).flows[place[1]]
            listed.append(ListedFlow(place[1], flow.created_ms, flow.ended_ms, flow.fields["m"], flow.quarantine))
        return listed

    async def expire(self, leases: Sequence[Lease], limit: int) -> int:
        await trio.lowlevel.checkpoint()
        now_ms = self._now_ms()
        removed = 0
        for lease in leases:
            if self._is_current(lease):
                partition = self._partition(lease.partition)
                flows = partition.flows
                over = sorted(
                    (flow.remove_at_ms, flow_id)
                    for flow_id, flow in flows.items()
                    if flow.remove_at_ms is not None and flow.remove_at_ms <= now_ms
                )[:limit]
                for _, flow_id in over:
                    del flows[flow_id]
                    partition.remembered[flow_id] = now_ms + REMEMBERED_MS
                removed += len(over)
        return removed

    # Leases.

    def _is_current(self, lease: Lease) -> bool:
        """Whether no other node took the partition since. The lease may have expired: epochs decide."""
        holder = self._partition(lease.partition).holder
        return holder is not None and holder.epoch == lease.epoch

    async def acquire(
        self, partitions: Sequence[int], node: str, lease_ms: int, instead_of: Collection[str] = ()
    ) -> list[Lease]:
        await trio.lowlevel.checkpoint()
        now_ms = self._now_ms()
        leases = []
        for number in partitions:
            partition = self._partition(number)
            holder = partition.holder
            is_held = holder is not None and holder.until_ms is not None and holder.until_ms > now_ms
            if holder and is_held and holder.node != node and holder.node not in instead_of:
                continue
            partition.holder = Holder(node, holder.epoch + 1 if holder else 1, now_ms + lease_ms)
            leases.append(Lease(number, partition.holder.epoch))
        return leases

    def _held(self, leases: Sequence[Lease], node: str) -> list[tuple[Lease, Holder]]:
        """The leases that are still the node's."""
        holders = [(lease, self._partition(lease.partition).holder) for lease in leases]
        return [
            (lease, holder)
            for lease, holder in holders
            if holder and holder.node == node and holder.epoch == lease.epoch and holder.until_ms is not None
        ]

    async def renew(self, leases: Sequence[Lease], node: str, lease_ms: int) -> list[Lease]:
        await trio.lowlevel.checkpoint()
        held = self._held(leases, node)
        for _, holder in held:
            holder.until_ms = self._now_ms() + lease_ms
        return [lease for lease, _ in held]

    async def release(self, leases: Sequence[Lease], node: str) -> None:
        await trio.lowlevel.checkpoint()
        for _, holder in self._held(leases, node):
            holder.until_ms = None

    async def owners(self, partitions: Sequence[int]) -> list[Owner]:
        await trio.lowlevel.checkpoint()
        now_ms = self._now_ms()
        owners = []
        for number in partitions:
            holder = self._partition(number).holder
            if holder:
                remaining_ms = 0 if holder.until_ms is None else holder.until_ms - now_ms
                owners.append(Owner(number, holder.node, holder.epoch, remaining_ms))
        return owners
