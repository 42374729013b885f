"""The timer loop: fires what is due in the owned partitions, and looks at each at least once a second.

It sleeps until the next timer that it knows of. A commit on this node, or a wake-up from another, tells it of an
earlier one (`hint`); a look that comes each second anyway finds what nobody told of, and work for the polls too.

Each look also shows the store's clock, which is watched for jumps (`clock`).

The store moves a timer that it hands out forward by LEASE_MS; the commit that handles it removes it. So a crash
in between only makes it late.
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
from orchy.store.leases import Lease
from orchy.store.timers import DueTimer, PartitionScan, TimerStore
from orchy.telemetry.unexpected import Where, note

SCAN_SECONDS = 1.0
LEASE_MS = 10_000
#: The most timers that one look takes from one partition.
TIMERS_PER_SCAN = 25
#: The most timers that are being handled at the same time.
FIRING_MAX = 200
#: The most workers' leases that are being looked into at the same time; those beyond come again after LEASE_MS.
LOSING_MAX = 1_000
#: After a look that failed.
RETRY_SECONDS = 0.5
#: What is wrong with many timers, such as a definition that is missing, is told so often.
TOLD_AGAIN_SECONDS = 60.0
TOLD_MAX = 100
#: Less sleep than this is not worth a look of its own.
_SOON_SECONDS = 0.001

log = logging.getLogger(__name__)


def _steady_ms() -> float:
    """Since the start of the computer, with the time in which it slept: nobody sets this clock."""
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
        batch_size: int = TIMERS_PER_SCAN,
        clock: Callable[[], float] = _steady_ms,
    ) -> None:
        self._store = store
        self._holdings = holdings
        self._fire = fire
        self._ready = ready
        self._observe = observe
        self._timers_per_scan = min(batch_size, TIMERS_PER_SCAN)
        self._clock = clock
        #: How the store's clock goes, compared with this node's.
        self.clock_watch = ClockWatch()
        self._due_at: dict[int, float] = {}  # when to look at a partition, at the latest at the next full look
        self._next_at = float("-inf")
        self._earlier = trio.Event()
        self._firing = trio.Semaphore(FIRING_MAX, max_value=FIRING_MAX)
        self._told_at: dict[str, float] = {}
        # Workers may have to be asked: nothing else shall wait for that.
        self._losing = trio.Semaphore(LOSING_MAX, max_value=LOSING_MAX)
        holdings.watch(self._on_change)

    @property
    def firing(self) -> int:
        """How many timers are being handled: at most FIRING_MAX, and LOSING_MAX of workers that may be lost."""
        return sum((places.max_value or 0) - places.value for places in (self._firing, self._losing))

    def hint(self, partition: int, after_ms: int) -> None:
        """A timer of a partition is due so long from now; nothing happens if it is not owned."""
        self._scan_at(partition, trio.current_time() + after_ms / 1000)

    def _scan_at(self, partition: int, at: float) -> None:
        if partition not in self._holdings.leases:
            return  # it may have been given up while the store was asked; kept here, it would be due for ever
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
        """Fire timers until cancelled; those that are being handled then come back after their lease."""
        full_scan_at = float("-inf")
        known: Mapping[int, Lease] = {}
        async with trio.open_nursery() as nursery:
            while True:
                self._earlier = trio.Event()
                now = trio.current_time()
                leases = self._holdings.leases
                if now >= full_scan_at:
                    asked = list(leases.values())
                    full_scan_at = now + SCAN_SECONDS
                else:
                    asked = [
                        lease
                        for partition, lease in leases.items()
                        if self._due_at.get(partition, full_scan_at) <= now + _SOON_SECONDS
                        or known.get(partition) != lease
                    ]
                known = leases
                if asked:
                    try:
                        await self._look(asked, nursery)
                    except StoreError as error:
                        log.warning("can't look for timers that are due: %s", error)
                        await trio.sleep(RETRY_SECONDS)
                        continue
                    except Exception as error:
                        note(Where.TIMER_LOOP, f"partitions {[lease.partition for lease in asked]}", error)
                        await trio.sleep(RETRY_SECONDS)
                        continue
                self._next_at = min([full_scan_at, *self._due_at.values()])
                with trio.move_on_at(self._next_at):
                    await self._earlier.wait()

    async def _look(self, asked: Sequence[Lease], nursery: trio.Nursery) -> None:
        for lease in asked:
            self._due_at.pop(lease.partition, None)  # a hint that comes while the store is asked shall stay
        asked_ms = self._clock()
        scans = await self._store.scan(asked, self._timers_per_scan, LEASE_MS)
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
        shown_ms = max((scan.time_ms for scan in scans), default=0)  # servers of a cluster have a clock each
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
            self._tell(due, str(error))
        except Exception as error:
            note(Where.TIMER, f"timer {due.key}", error)
        finally:
            place.release()

    def _tell(self, due: DueTimer, why: str) -> None:
        """Log why a timer could not be handled, once for all of the same trouble."""
        now = trio.current_time()
        if now - self._told_at.get(why, float("-inf")) < TOLD_AGAIN_SECONDS:
            return
        if len(self._told_at) >= TOLD_MAX:
            self._told_at.clear()
        self._told_at[why] = now
        log.warning("timer %s could not be handled and comes again: %s", due.key, why)
