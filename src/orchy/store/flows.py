"""The store's port for flows: reads, listings, and the commits that change them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Protocol

from msgspec import Struct

from orchy.errors import StoreError
from orchy.store.leases import Lease
from orchy.store.quarantine import Quarantine, QuarantineStore
from orchy.store.queues import QueueEntry, QueueStore, Receipt
from orchy.store.timers import TimerKey, TimerSetting, TimerStore

PAUSED_FIELD = "p"
RUNNING_FIELD_PREFIX = "r:"
#: The store's own fields: a commit must not name them.
OWN_FIELDS = frozenset({"v", "c", "u", "z", "b"})


class Listing(StrEnum):
    """Which part of the index a flow is listed in."""

    ACTIVE = "active"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Commit(Struct, frozen=True):
    """One transition of one flow, to happen if the flow is still at `expected_version` (0: it does not exist).

    `history` entries are JSON arrays without their time. `listed_before` is None for a start. `retain_ms` is set when
    the flow is over: it is removed so long after the commit (0: with it). `unpark` puts entries that `claim` set aside
    during a pause back into their queues. Cancelling a TIMEOUT also cancels the LOST timer of its attempt.
    `fired_timers` are those (of the MOVABLE) that the commit handles: each must have been taken by a `scan` and not
    moved since.
    """

    partition: int
    flow_id: str
    workflow: str
    expected_version: int
    fields: Mapping[str, bytes]
    removed_fields: Sequence[str]
    history: Sequence[bytes]
    listed_before: Listing | None
    listed_after: Listing
    enqueue: Sequence[QueueEntry] = ()
    set_timers: Sequence[TimerSetting] = ()
    cancel_timers: Sequence[TimerKey] = ()
    fired_timers: Sequence[TimerKey] = ()
    unpark: bool = False
    retain_ms: int | None = None


class Committed(Struct, frozen=True):
    """The outcome of a commit. `version` is the flow's new one; `time_ms` is the store's clock at the commit.

    `unparked` names the actions whose queues got parked entries back. `receipts` are those of the attempts that were
    handed out, in the order of `Commit.enqueue`.
    """

    version: int
    time_ms: int
    unparked: Sequence[str] = ()
    receipts: Sequence[Receipt] = ()


class StoredFlow(Struct, frozen=True):
    """A flow as stored. `ended_ms` is None until it is over."""

    version: int
    fields: Mapping[str, bytes]
    created_ms: int
    ended_ms: int | None
    quarantine: Quarantine | None = None


class ListedFlow(Struct, frozen=True):
    """One line of a listing; `meta` is the flow's `m` field (opaque here, see `flow.codec`)."""

    flow_id: str
    created_ms: int
    ended_ms: int | None
    meta: bytes
    quarantine: Quarantine | None = None


class HistoryEntry(Struct, frozen=True):
    """`entry` is the JSON array that the commit (or `claim`) wrote."""

    time_ms: int
    entry: bytes


class FlowStore(QueueStore, TimerStore, QuarantineStore, Protocol):
    """Flows, their queues and their timers."""

    async def commit(self, commit: Commit) -> Committed:
        """Make one transition: `fields` are written, then `removed_fields` removed.

        A flow is not started if one of the same id was removed within the last REMEMBERED_MS.
        Raises VersionConflict or TimerMoved (nothing changed), OutcomeUnknown, StoreUnavailable, StoreRefused.
        """
        ...

    async def commit_all(self, commits: Sequence[Commit]) -> list[Committed | StoreError]:
        """Make each commit independently, sent together; the result of each, or the error that `commit` raises."""
        ...

    async def load(self, partition: int, flow_id: str) -> StoredFlow | None:
        """The flow, or None if there is none."""
        ...

    async def history(self, partition: int, flow_id: str, start: int, limit: int) -> list[HistoryEntry] | None:
        """Entries from index `start` (0: the oldest) on, at most `limit`; None if there is no such flow."""
        ...

    async def list_flows(
        self,
        partition: int,
        listings: Sequence[Listing],
        workflow: str | None,
        limit: int,
        before: tuple[int, str] | None,
        quarantined: bool = False,
    ) -> list[ListedFlow]:
        """Newest first by (created_ms, flow_id); only those after `before` in that order.

        `quarantined`: those in quarantine, regardless of `listings` and `workflow`.
        """
        ...

    async def expire(self, leases: Sequence[Lease], limit: int) -> int:
        """Remove flows whose retention is over, at most `limit` per partition; returns how many."""
        ...
