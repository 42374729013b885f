"""The store's port for timers of flows and their attempts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from orchy.flow.events import TimerKind
from orchy.flow.runs import RunId, parse_run
from orchy.store.leases import Lease

#: Timers that can be extended after they were set, also after a scan has taken them.
MOVABLE = frozenset({TimerKind.TIMEOUT, TimerKind.LOST})


class TimerKey(Struct, frozen=True):
    """Identifies a timer: there is at most one of each key."""

    kind: TimerKind
    action_id: RunId
    attempt: int
    flow_id: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.action_id}:{self.attempt}:{self.flow_id}"

    @classmethod
    def parse(cls, text: str) -> TimerKey:
        """The inverse of `str`. Raises ValueError."""
        kind, action_id, attempt, flow_id = text.split(":", 3)
        return cls(TimerKind(kind), parse_run(action_id), int(attempt), flow_id)


class TimerSetting(Struct, frozen=True):
    """A timer to set, `after_ms` (>= 0) after the commit. It replaces one of the same key."""

    key: TimerKey
    after_ms: int


class DueTimer(Struct, frozen=True):
    """A timer of `partition` that has been due for `late_ms`. It returns after the lease unless a commit cancels it."""

    partition: int
    key: TimerKey
    late_ms: int


class PartitionScan(Struct, frozen=True):
    """What a scan found in one partition.

    `next_due_in_ms` is the time until the next timer (None: there is none; <= 0: more are due now).
    `ready` names the actions whose queues are not empty. `lease_lost`: another node has the partition; nothing was
    taken. `time_ms` is the store's clock (0: not given).
    """

    partition: int
    due: Sequence[DueTimer]
    next_due_in_ms: int | None
    ready: Sequence[str]
    lease_lost: bool = False
    time_ms: int = 0


class TimerStore(Protocol):
    """Timers after they were set, which commits and claims do."""

    async def scan(self, leases: Sequence[Lease], limit: int, lease_ms: int) -> list[PartitionScan]:
        """Take due timers of the partitions, at most `limit` each, earliest first; each is moved `lease_ms` forward.

        Those of flows in quarantine are set aside instead.
        """
        ...

    async def extend(self, partition: int, timer: TimerSetting) -> bool:
        """Move a timer that is set and not due to `after_ms` from now; False if there is none.

        One that a `scan` has taken is not due until it returns: once extended, it must not be handled.
        """
        ...

    async def renew_attempts(self, partition: int, timers: Sequence[TimerKey], lease_ms: int) -> list[bool]:
        """Postpone LOST timers (at most BATCH_MAX) to `lease_ms` from now or later; for each, whether it was set.

        None is moved back, but each is moved: one that a `scan` has taken must not be handled.
        """
        ...

    async def cancel_timers(self, partition: int, keys: Sequence[TimerKey]) -> None:
        """Cancel timers whose flow is gone or whose attempt is over, as `commit` does."""
        ...
