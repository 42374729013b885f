"""The timer loop: fires what is due in the owned partitions, and scans each of them at least once a second.

It sleeps until the next timer that it knows of. A commit on this node, or a wake-up from another, announces an earlier
one (`hint`); the regular scan finds those whose announcements were lost, and reports work for the polls too.

Each scan also reads the store's clock, which is watched for jumps (`clock`).

A scan moves the timers that it takes into the future by `lease_ms`; the commit that handles a timer removes it. So a
crash in between only makes the timer late.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NoReturn

import trio

from orchy.errors import OrchyError, StoreError
from orchy.flow.events import TimerKind
from orchy.partition.clock import ClockWatch
from orchy.partition.holdings import Holdings
from orchy.partition.limits import TIMER_LIMITS, TIMER_TIMING, TimerLimits, TimerTiming
from orchy.store.leases import Lease
from orchy.store.limits import BATCH_MAX
from orchy.store.timers import DueTimer, PartitionScan, TimerStore
from orchy.telemetry.throttle import ThrottledWarnings
from orchy.telemetry.unexpected import Where, note

log = logging.getLogger(__name__)


def _steady_ms() -> float:
    """Since the computer was started, including time in suspension. Nobody sets this clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) * 1000


class TimerLoop:
    """The timers of the owned partitions."""

    def __init__(
        self,
        store: TimerStore,
        holdings: Holdings,
        fire: Callable[[DueTimer], Awaitable[None]],
        ready: Callable[[int, Sequence[str]], None],
        observe: Callable[[int], None],
        batch_size: int = BATCH_MAX,
        clock: Callable[[], float] = _steady_ms,
        limits: TimerLimits = TIMER_LIMITS,
        timing: TimerTiming = TIMER_TIMING,
    ) -> None:
        """`fire` handles a timer, `ready` hears of work, `observe` of how late each timer was, in ms."""
        self._store = store
        self._holdings = holdings
        self._fire = fire
        self._ready = ready
        self._observe = observe
        self._timing = timing
        self._timers_per_scan = min(batch_size, limits.per_scan_max)
        self._clock = clock
        #: Compares the store's clock with this node's.
        self.clock_watch = ClockWatch()
        self._due_at: dict[int, float] = {}  # when to scan a partition, if that is before the next full scan
        self._next_at = float("-inf")
        self._earlier = trio.Event()
        self._firing = trio.Semaphore(limits.firing_max, max_value=limits.firing_max)
        # Leases of workers have places of their own: a worker may have to be asked, and other timers must not wait.
        self._losing = trio.Semaphore(limits.losing_max, max_value=limits.losing_max)
        self._warnings = ThrottledWarnings(log)  # one trouble, such as a missing definition, may hit many timers
        holdings.watch(self._on_change)

    @property
    def firing(self) -> int:
        """How many timers are being handled now."""
        return sum((places.max_value or 0) - places.value for places in (self._firing, self._losing))

    def hint(self, partition: int, after_ms: int) -> None:
        """A timer of a partition is due `after_ms` from now; ignored if the partition is not owned."""
        self._scan_at(partition, trio.current_time() + after_ms / 1000)

    def _scan_at(self, partition: int, at: float) -> None:
        if partition not in self._holdings.leases:
            return  # released during the scan; with an entry here it would stay due for ever
        if at < self._due_at.get(partition, float("inf")):
            self._due_at[partition] = at
        if at < self._next_at:
            self._next_at = at
            self._earlier.set()

    def _on_change(self, leases: Mapping[int, Lease]) -> None:
        for partition in self._due_at.keys() - leases.keys():
            del self._due_at[partition]
        self._earlier.set()

    async def run(self) -> NoReturn:
        """Fire timers until cancelled; those being handled then are due again when their leases expire."""
        full_scan_at = float("-inf")
        known: Mapping[int, Lease] = {}
        async with trio.open_nursery() as nursery:
            while True:
                self._earlier = trio.Event()
                now = trio.current_time()
                leases = self._holdings.leases
                if now >= full_scan_at:
                    asked = list(leases.values())
                    full_scan_at = now + self._timing.scan_seconds
                else:
                    asked = [
                        lease
                        for partition, lease in leases.items()
                        if self._due_at.get(partition, full_scan_at) <= now + self._timing.soon_seconds
                        or known.get(partition) != lease
                    ]
                known = leases
                if asked:
                    try:
                        await self._scan(asked, nursery)
                    except StoreError as error:
                        log.warning("can't look for timers that are due: %s", error)
                        await trio.sleep(self._timing.retry_seconds)
                        continue
                    except Exception as error:
                        note(Where.TIMER_LOOP, f"partitions {[lease.partition for lease in asked]}", error)
                        await trio.sleep(self._timing.retry_seconds)
                        continue
                self._next_at = min([full_scan_at, *self._due_at.values()])
                with trio.move_on_at(self._next_at):
                    await self._earlier.wait()

    async def _scan(self, asked: Sequence[Lease], nursery: trio.Nursery) -> None:
        for lease in asked:
            self._due_at.pop(lease.partition, None)  # before the call, so that a hint during the call is kept
        asked_ms = self._clock()
        scans = await self._store.scan(asked, self._timers_per_scan, self._timing.lease_ms)
        self._watch_clock(scans, asked_ms)
        for scan in scans:
            if scan.lease_lost:
                self._holdings.remove([scan.partition])
                continue
            self._note(scan)
            for due in scan.due:
                if due.key.kind is not TimerKind.LOST:
                    await self._firing.acquire()
                    nursery.start_soon(self._handle, due, self._firing)
                elif self._losing.value:
                    self._losing.acquire_nowait()
                    nursery.start_soon(self._handle, due, self._losing)

    def _watch_clock(self, scans: Sequence[PartitionScan], asked_ms: float) -> None:
        shown_ms = max((scan.time_ms for scan in scans), default=0)  # each server of a Redis Cluster has its own clock
        if not shown_ms:
            return
        jump_ms = self.clock_watch.note(shown_ms, asked_ms, self._clock())
        if jump_ms is not None:
            log.error(
                "the store's clock has jumped %s by %.1f s: delays, timeouts and retries that were set before end that"
                " much %s; set the clock of its host slowly (slew), never at once",
                "forward" if jump_ms > 0 else "back",
                abs(jump_ms) / 1000,
                "early" if jump_ms > 0 else "late",
            )

    def _note(self, scan: PartitionScan) -> None:
        if scan.next_due_in_ms is not None:
            self._scan_at(scan.partition, trio.current_time() + scan.next_due_in_ms / 1000)
        if scan.ready:
            self._ready(scan.partition, scan.ready)

    async def _handle(self, due: DueTimer, place: trio.Semaphore) -> None:
        try:
            await self._fire(due)
            self._observe(due.late_ms)
        except OrchyError as error:
            self._warnings.warn(str(error), "timer %s could not be handled and comes again: %s", due.key, error)
        except Exception as error:
            note(Where.TIMER, f"timer {due.key}", error)
        finally:
            place.release()
