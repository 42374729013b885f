"""Flows and the commits that change them: a part of the store's port."""

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
#: Fields that a commit may not name.
OWN_FIELDS = frozenset({"v", "c", "u", "z", "b"})


class Listing(StrEnum):
    """Which part of the index a flow is listed in."""

    ACTIVE = "active"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Commit(Struct, frozen=True):
    """One transition of one flow, to happen if the flow is still at `expected_version` (0: it does not exist).

    `history` entries are JSON arrays without their time. `was`/`now` say where the flow is listed before and
    after; `was` is None for a start. `retain_ms` is given when the flow is over: it is removed so long after
    (0: with this commit). `unpark` puts what `claim` set aside during a pause back into its queues.
    `cancel_timers` that are TIMEOUTs take the LOST timers of their attempts along. `fired_timers` are those (of the
    MOVABLE) that the commit handles: each must have been taken by a `scan` and not have been moved since.
    """

    partition: int
    flow_id: str
    workflow: str
    expected_version: int
    fields: Mapping[str, bytes]
    removed_fields: Sequence[str]
    history: Sequence[bytes]
    was: Listing | None
    now: Listing
    enqueue: Sequence[QueueEntry] = ()
    set_timers: Sequence[TimerSetting] = ()
    cancel_timers: Sequence[TimerKey] = ()
    fired_timers: Sequence[TimerKey] = ()
    unpark: bool = False
    retain_ms: int | None = None


class Committed(Struct, frozen=True):
    """`version` is the flow's new one; `time_ms` is the store's clock at the commit.

    `unparked` names the actions whose queues got parked entries back. `receipts` are those of the attempts that were
    handed out, in the order of `Commit.enqueue`.
    """

    version: int
    time_ms: int
    unparked: Sequence[str] = ()
    receipts: Sequence[Receipt] = ()


class StoredFlow(Struct, frozen=True):
    """A flow as the store has it. `ended_ms` is None while it is not over."""

    version: int
    fields: Mapping[str, bytes]
    created_ms: int
    ended_ms: int | None
    quarantine: Quarantine | None = None


class ListedFlow(Struct, frozen=True):
    """One line of a listing: the flow's id and its `m` field (what the codec puts there is opaque here)."""

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

        A flow whose id was another's that was removed within the last REMEMBERED_MS is not started.
        Raises VersionConflict (nothing changed), TimerMoved (likewise), OutcomeUnknown, StoreUnavailable, StoreRefused.
        """
        ...

    async def commit_all(self, commits: Sequence[Commit]) -> list[Committed | StoreError]:
        """Each for itself, as `commit` does it; what it would raise is the outcome. They leave together."""
        ...

    async def load(self, partition: int, flow_id: str) -> StoredFlow | None:
        """The flow as it is, or None."""
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
        """Newest first by (created_ms, flow_id), only those that come after `before` in that order.

        `quarantined`: those in quarantine, whatever `listings` and `workflow` say.
        """
        ...

    async def expire(self, leases: Sequence[Lease], limit: int) -> int:
        """Remove flows whose retention is over, at most `limit` a partition; how many were removed."""
        ...
