"""The store's port: what must be atomic is one method. Redis and the in-memory reference both pass its one suite.

Rules every store keeps:

* A method happens whole or not at all, and raises from the `StoreError` branch of `orchy.errors`.
* The store's clock is the only one: due times are "so long after the commit", times in answers are the store's.
* `fields` of a flow are opaque, but for two that `claim` reads: `r:<actionId>` starts with `<attempt>:<phase>`
  (phase `q`: with the workers), and `p` is there while the flow is paused. The names `v`, `c`, `u`, `z` and `b` are the
  store's own.
* A flow's partition is the caller's to know; everything of one partition can be touched together.
* Names of actions and ids are text without control characters (the callers have checked them).
* Saving a definition over the limits that the caller gives raises LimitReached; nothing was changed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from typing import Protocol

from msgspec import Struct

from orchy.errors import StoreError
from orchy.flow.events import TimerKind
from orchy.store.definitions import DefinitionStore as DefinitionStore
from orchy.store.definitions import NamespaceSettings as NamespaceSettings
from orchy.store.definitions import StoredWorkflow as StoredWorkflow
from orchy.store.quarantine import Quarantine, QuarantineStore

PAUSED_FIELD = "p"
RUNNING_FIELD_PREFIX = "r:"
#: Fields that a commit may not name.
OWN_FIELDS = frozenset({"v", "c", "u", "z", "b"})

#: Most items that one call takes or hands out for one partition.
BATCH_MAX = 100
#: A claim stops when what it hands out is this large: common gRPC clients take no message over 4 MiB.
CLAIM_BYTES_MAX = 3 * 2**20
#: For so long the id of a flow that was removed is remembered: a repeated start starts nothing, and no node still holds
#: the flow that had the id before.
REMEMBERED_MS = 120_000
#: Timers that may be given more time after they were set, also after somebody has taken them.
MOVABLE = frozenset({TimerKind.TIMEOUT, TimerKind.LOST})
#: Oldest entries of a history give way beyond this many.
HISTORY_ENTRIES_MAX = 50_000
#: When the long entries that commits wrote come to more bytes, the oldest give way until three quarters are left.
HISTORY_BYTES_MAX = 8 * 2**20
#: Longer ones are long; what others come to is bounded by how many there may be.
LONG_ENTRY_BYTES = 160


class TimerKey(Struct, frozen=True):
    """Which timer: there is at most one of each key."""

    kind: TimerKind
    action_id: int
    attempt: int
    flow_id: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.action_id}:{self.attempt}:{self.flow_id}"

    @classmethod
    def parse(cls, text: str) -> TimerKey:
        """The key that `str` made; raises ValueError for anything else."""
        kind, action_id, attempt, flow_id = text.split(":", 3)
        return cls(TimerKind(kind), int(action_id), int(attempt), flow_id)


class TimerSetting(Struct, frozen=True):
    """A timer to set, `after_ms` (>= 0) after the commit. One of the same key is moved."""

    key: TimerKey
    after_ms: int


class QueueEntry(Struct, frozen=True):
    """An attempt for the workers. `body` is handed out as it is; `timeout_ms` runs from the handing out.

    With a `worker` it is handed out by the commit itself, to that worker, and never is in a queue. `lease_ms` > 0: the
    worker says from time to time that it lives; if the attempt may take longer, its LOST timer is set to that.
    """

    action_name: str
    action_id: int
    attempt: int
    timeout_ms: int
    body: bytes
    worker: str | None = None
    lease_ms: int = 0


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


class Receipt(Struct, frozen=True):
    """With what a store takes an attempt back that it handed out; `head` is its own affair, `due_ms` its timeout.

    `flow_id`, `action_id` and `attempt` say which attempt it is.
    """

    partition: int
    head: bytes
    due_ms: int = 0
    flow_id: str = ""
    action_id: int = 0
    attempt: int = 0


class HandOut(Struct, frozen=True):
    """To which worker an attempt was handed out last (as it calls itself), and how long ago."""

    worker: str
    age_ms: int


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


class Claimed(Struct, frozen=True):
    """What a claim got: bodies, and for each its receipt. `emptied`: of the partitions that it came to, those in which
    no entry of the action is left.
    """

    bodies: Sequence[bytes]
    emptied: Sequence[int]
    receipts: Sequence[Receipt] = ()


class Lease(Struct, frozen=True):
    """The right to work on a partition. Epochs only rise."""

    partition: int
    epoch: int


class Owner(Struct, frozen=True):
    """Who holds a partition's lease, and for how much longer (<= 0: it has expired)."""

    partition: int
    node: str
    epoch: int
    remaining_ms: int


class DueTimer(Struct, frozen=True):
    """A timer that is due in `partition`, since `late_ms`. It comes back after the lease unless a commit cancels it."""

    partition: int
    key: TimerKey
    late_ms: int


class PartitionScan(Struct, frozen=True):
    """What one look at a partition found.

    `next_due_in_ms` is the time until the next timer (None: there is none; <= 0: more are due now).
    `ready` names the actions with a queue that is not empty. `lost`: the lease is somebody else's, nothing was taken.
    `time_ms` is the store's clock (0: it was not told).
    """

    partition: int
    due: Sequence[DueTimer]
    next_due_in_ms: int | None
    ready: Sequence[str]
    lost: bool = False
    time_ms: int = 0


class FlowStore(QuarantineStore, Protocol):
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

    async def claim(
        self, action_name: str, partitions: Sequence[int], limit: int, worker_id: str, lease_ms: int = 0
    ) -> Claimed:
        """Hand out at most `limit` (<= BATCH_MAX) attempts of one action, from the partitions in the order given.

        It stops with the attempt by which the bodies together come to CLAIM_BYTES_MAX.

        Each handed-out attempt gets its timeout timer and a HANDED_OUT history entry. An entry whose attempt
        is not the running one any more is dropped; one of a paused flow is set aside until the flow is resumed.
        `lease_ms` is as that of a QueueEntry.
        """
        ...

    async def give_back(self, claimed: Claimed) -> int:
        """Put attempts that did not reach their worker back to the front of their queues, and drop their timeouts.

        Those whose timeout is not set any more have ended, and those whose timeout is due end now: they are passed
        over. Each one that went back gets a GIVEN_BACK history entry. How many did.
        """
        ...

    async def extend(self, partition: int, timer: TimerSetting) -> bool:
        """Move a timer that is set and not due to so long from now; False if there is none.

        One that a `scan` has taken is not due until it comes again: extended, it is not to be handled any more.
        """
        ...

    async def renew_attempts(self, partition: int, timers: Sequence[TimerKey], lease_ms: int) -> list[bool]:
        """Let LOST timers (at most BATCH_MAX) be due no sooner than `lease_ms` from now; of each, whether it was set.

        None is moved back, and each is moved: one that was taken is not to be handled any more.
        """
        ...

    async def last_hand_out(self, partition: int, flow_id: str, action_id: int, attempt: int) -> HandOut | None:
        """To whom an attempt was handed out last, as the history has it; None if it has nothing of that."""
        ...

    async def scan(self, leases: Sequence[Lease], limit: int, lease_ms: int) -> list[PartitionScan]:
        """Due timers of the partitions, at most `limit` each, earliest first, each moved `lease_ms` forward.

        Those of flows in quarantine are not among them: they are set aside.
        """
        ...

    async def cancel_timers(self, partition: int, keys: Sequence[TimerKey]) -> None:
        """Forget timers that mean nothing any more (their flow is gone, or their attempt over); as `commit` does."""
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


class LeaseStore(Protocol):
    """Who owns which partition."""

    async def acquire(
        self, partitions: Sequence[int], node: str, lease_ms: int, instead_of: Collection[str] = ()
    ) -> list[Lease]:
        """Take the leases that are free, expired, released or already the node's, each with its epoch raised by one.

        `instead_of` names nodes that are known to be gone: what one of them still holds is taken as well. Those that
        somebody else still holds are left out of the answer.
        """
        ...

    async def renew(self, leases: Sequence[Lease], node: str, lease_ms: int) -> list[Lease]:
        """Prolong; the answer holds those that are still the node's."""
        ...

    async def release(self, leases: Sequence[Lease], node: str) -> None:
        """Give up those that are still the node's. The epoch stays, so that the next owner's is higher."""
        ...

    async def owners(self, partitions: Sequence[int]) -> list[Owner]:
        """Who holds each partition; those that nobody ever held are left out."""
        ...


class RegisteredNode(Struct, frozen=True):
    """A process that serves the namespace. `address` is its gossip's; `instance` differs for each process."""

    node: str
    instance: str
    address: str
    remaining_ms: int


class NodeStore(Protocol):
    """Which processes serve the namespace, so that they find each other, and no two have one name."""

    async def register(self, node: str, instance: str, address: str, lease_ms: int) -> list[RegisteredNode]:
        """Say for `lease_ms` that this process is there; the answer holds all whose time is not over.

        If another instance holds the name, at another address, nothing is changed, and the answer shows it.
        """
        ...

    async def unregister(self, node: str, instance: str) -> None:
        """This process is not there any more."""
        ...


class Store(FlowStore, LeaseStore, NodeStore, DefinitionStore, Protocol):
    """All of it."""
