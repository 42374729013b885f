"""Leases of attempts: while a worker keeps saying that it holds an attempt, nobody else gets it before its timeout.

The store keeps a lease as a timer beside the attempt's timeout. Renewing one that does not exist does nothing: the
attempt is over, or its timeout is shorter than a lease anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from orchy.flow.events import TimerKind
from orchy.flow.runs import RunId
from orchy.runtime.gather import gather
from orchy.store.limits import BATCH_MAX
from orchy.store.timers import TimerKey, TimerStore

#: Flow id, action id, number of the attempt.
Attempt: TypeAlias = tuple[str, RunId, int]
#: Bounds on the lease that a worker may ask for.
LEASE_MS_MIN = 5_000
LEASE_MS_MAX = 3_600_000
#: Concurrent calls to the store for one renewal.
CALLS_AT_ONCE = 4


class AttemptLeases:
    """Renews leases of attempts in any partition."""

    def __init__(self, store: TimerStore, partition_of: Callable[[str], int]) -> None:
        self._store = store
        self._partition_of = partition_of

    async def renew(self, attempts: Sequence[Attempt], lease_ms: int) -> dict[Attempt, bool]:
        """Extend each lease to at least `lease_ms` from now; returns for each attempt whether it had a lease.

        Raises what the store raises; some may have been renewed by then.
        """
        by_partition: dict[int, list[Attempt]] = {}
        for attempt in dict.fromkeys(attempts):
            by_partition.setdefault(self._partition_of(attempt[0]), []).append(attempt)
        batches = [
            (partition, group[first : first + BATCH_MAX])
            for partition, group in by_partition.items()
            for first in range(0, len(group), BATCH_MAX)
        ]
        renewed: dict[Attempt, bool] = {}

        async def renew(batch: tuple[int, Sequence[Attempt]]) -> None:
            partition, group = batch
            keys = [TimerKey(TimerKind.LOST, action_id, number, flow_id) for flow_id, action_id, number in group]
            found = await self._store.renew_attempts(partition, keys, lease_ms)
            renewed.update(zip(group, found, strict=True))

        await gather(renew, batches, CALLS_AT_ONCE)
        return renewed
