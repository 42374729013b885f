"""What a worker's stream can hold of one action: free places, and those that are kept for what is on its way."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import trio

from orchy.store.queues import Claimed, Receipt


@attrs.define(eq=False)
class Demand:
    """Attempts of one action that a worker waits for; each is delivered as it is handed out, and takes one place.

    `credit` places are free. It is what the worker has given and taken back, less what was handed out: below 0 when the
    worker took back what was on its way by then, so that both sides go on with the same number. A commit, or a claim,
    keeps places first (`reserve`) and says then what came of them (`take`, `release`, `settle`). A demand whose worker
    has gone stays until that is said of all. `lease_ms` is how long the worker may be silent; 0: it has no lease.
    """

    action_name: str
    worker: str
    deliver: Callable[[Claimed], None]
    lease_ms: int = 0
    credit: int = 0
    reserved: int = 0
    closed: bool = False
    _paused_credit: int | None = None  # the credit, while nothing is to be handed out for it
    _changed: trio.Event = attrs.field(factory=trio.Event)

    @property
    def granted(self) -> int:
        """All that may still be delivered: the credit, also where it is held, and what is on its way."""
        return self.credit + (self._paused_credit or 0) + self.reserved

    def add(self, places: int) -> None:
        """The worker can hold more, or (negative) fewer."""
        if not self.closed:
            self._free(places)
            self._notify()

    def close(self) -> None:
        """The worker wants no more."""
        self.closed = True
        self.credit = 0
        self._paused_credit = None
        self._notify()

    def pause(self) -> None:
        """Hand out nothing until `resume`, whatever the credit."""
        if self._paused_credit is None and not self.closed:
            self._paused_credit, self.credit = self.credit, 0

    def resume(self) -> None:
        """The credit counts again."""
        if self._paused_credit is not None:
            self.credit, self._paused_credit = self._paused_credit, None
            self._notify()

    def reserve(self, places: int = 1) -> None:
        """Keep free places."""
        self.credit -= places
        self.reserved += places

    def take(self, body: bytes, receipt: Receipt) -> None:
        """An attempt that was handed out, for a place that was kept."""
        self.settle(Claimed((body,), (), (receipt,)))

    def release(self) -> None:
        """Nothing came for a place that was kept: it is free again."""
        self.settle(None)

    def settle(self, claimed: Claimed | None, places: int = 1) -> None:
        """What came for places that were kept; those that are left are free again."""
        self.reserved -= places
        free = places - (len(claimed.bodies) if claimed else 0)
        if free and not self.closed:
            self._free(free)
        if claimed is not None and claimed.bodies:
            self.deliver(claimed)
        if free or not self.reserved:
            self._notify()

    async def wait_for_credit(self) -> bool:
        """Returns True when there is credit, False when the worker wants no more."""
        while not self.closed and self.credit <= 0:
            await self._changed.wait()
        return not self.closed

    async def wait_settled(self) -> None:
        """Returns when no place is kept."""
        while self.reserved:
            await self._changed.wait()

    def _free(self, places: int) -> None:
        if self._paused_credit is None:
            self.credit += places
        else:
            self._paused_credit += places

    def _notify(self) -> None:
        self._changed.set()
        self._changed = trio.Event()
