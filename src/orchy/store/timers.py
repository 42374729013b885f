"""Timers of flows and their attempts: a part of the store's port."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from orchy.flow.events import TimerKind
from orchy.flow.runs import RunId, parse_run
from orchy.store.leases import Lease

#: Timers that may be given more time after they were set, also after somebody has taken them.
MOVABLE = frozenset({TimerKind.TIMEOUT, TimerKind.LOST})


class TimerKey(Struct, frozen=True):
    """Which timer: there is at most one of each key."""

    kind: TimerKind
    action_id: RunId
    attempt: int
    flow_id: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.action_id}:{self.attempt}:{self.flow_id}"

    @classmethod
    def parse(cls, text: str) -> TimerKey:
        """The key that `str` made; raises ValueError for anything else."""
        kind, action_id, attempt, flow_id = text.split(":", 3)
        return cls(TimerKind(kind), parse_run(action_id), int(attempt), flow_id)


class TimerSetting(Struct, frozen=True):
    """A timer to set, `after_ms` (>= 0) after the commit. One of the same key is moved."""

    key: TimerKey
    after_ms: int


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


class TimerStore(Protocol):
    """Timers after they were set: a commit or a claim sets them."""

    async def scan(self, leases: Sequence[Lease], limit: int, lease_ms: int) -> list[PartitionScan]:
        """Due timers of the partitions, at most `limit` each, earliest first, each moved `lease_ms` forward.

        Those of flows in quarantine are not among them: they are set aside.
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

    async def cancel_timers(self, partition: int, keys: Sequence[TimerKey]) -> None:
        """Forget timers that mean nothing any more (their flow is gone, or their attempt over); as `commit` does."""
        ...
