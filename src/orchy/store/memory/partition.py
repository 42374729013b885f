"""A partition of the reference store: flows, queues, timers, the lease."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable

import attrs
from msgspec.structs import replace

from orchy.flow.events import TimerKind
from orchy.store.flows import HistoryEntry, Listing
from orchy.store.limits import HISTORY_BYTES_MAX, HISTORY_ENTRIES_MAX
from orchy.store.quarantine import Quarantine
from orchy.store.queues import QueueEntry, Receipt
from orchy.store.timers import TimerKey


@attrs.frozen
class Queued:
    """A queue entry and its flow."""

    flow_id: str
    entry: QueueEntry

    def head(self) -> bytes:
        """Everything but the body."""
        entry = self.entry
        return json.dumps([self.flow_id, entry.action_name, entry.action_id, entry.attempt, entry.timeout_ms]).encode()

    def receipt(self, number: int, partition: Partition) -> Receipt:
        """The receipt of the attempt, which was handed out just now."""
        entry = self.entry
        key = TimerKey(TimerKind.TIMEOUT, entry.action_id, entry.attempt, self.flow_id)
        due_ms = int(partition.timers[key])
        return Receipt(number, self.head(), due_ms, self.flow_id, entry.action_id, entry.attempt)

    @classmethod
    def of(cls, head: bytes, body: bytes) -> Queued:
        """The inverse: from a head and a body."""
        flow_id, action_name, action_id, attempt, timeout_ms = json.loads(head)
        return cls(flow_id, QueueEntry(action_name, action_id, attempt, timeout_ms, body))


@attrs.define(eq=False)
class KeptFlow:
    """A flow, its history, and the queue entries that a pause set aside."""

    workflow: str
    created_ms: int
    listing: Listing
    version: int = 0
    ended_ms: int | None = None
    remove_at_ms: int | None = None
    fields: dict[str, bytes] = attrs.field(factory=dict)
    history: deque[HistoryEntry] = attrs.field(factory=lambda: deque(maxlen=HISTORY_ENTRIES_MAX))
    history_bytes: int = 0  # of the long entries that commits wrote since the history was last cut
    parked: list[Queued] = attrs.field(factory=list)
    quarantine: Quarantine | None = None
    set_aside: set[TimerKey] = attrs.field(factory=set)  # timers that came due in quarantine

    def cut_history(self) -> None:
        """Keep the newest entries within three quarters of HISTORY_BYTES_MAX, and the very newest in any case."""
        kept, kept_bytes = 0, 0
        for entry in reversed(self.history):
            if kept and kept_bytes + len(entry.entry) > HISTORY_BYTES_MAX // 4 * 3:
                break
            kept += 1
            kept_bytes += len(entry.entry)
        while len(self.history) > kept:
            self.history.popleft()
        self.history_bytes = kept_bytes


@attrs.define(eq=False)
class Holder:
    """The holder of a partition's lease. `until_ms` is None after a release."""

    node: str
    epoch: int
    until_ms: int | None


@attrs.define(eq=False)
class Partition:
    """Everything of one partition."""

    flows: dict[str, KeptFlow] = attrs.field(factory=dict)
    queues: dict[str, deque[Queued]] = attrs.field(factory=dict)  # only those that are not empty
    timers: dict[TimerKey, float] = attrs.field(factory=dict)  # due times in ms; those with a half were taken by a scan
    holder: Holder | None = None
    remembered: dict[str, int] = attrs.field(factory=dict)  # ids of removed flows, until when in ms

    def push(self, queued: Queued) -> None:
        """Append an entry to its queue."""
        self.queues.setdefault(queued.entry.action_name, deque()).append(queued)

    def cancel(self, keys: Iterable[TimerKey]) -> None:
        """Cancel timers; a TIMEOUT takes the LOST timer of its attempt along."""
        for key in keys:
            self.timers.pop(key, None)
            if key.kind == TimerKind.TIMEOUT:
                self.timers.pop(replace(key, kind=TimerKind.LOST), None)
