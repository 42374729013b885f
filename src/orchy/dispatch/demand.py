"""A stream's demand for one action: the credit its worker has given, and the places reserved for work on its way."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import trio

from orchy.store.queues import Claimed, Receipt


@attrs.define(eq=False)
class Demand:
    """Attempts of one action that a worker waits for; each one delivered takes one place.

    `credit` is how many places are free: what the worker has granted and withdrawn, less what was handed out. It is
    negative when the worker withdrew places that were already taken, so that both sides keep counting the same number.
    A commit or a claim first reserves places (`reserve`) and later says what became of them (`take`, `release`,
    `settle`). A demand whose worker has gone stays until all of them are settled. `lease_ms` is how long the worker
    may be silent; 0: it has no lease.
    """

    action_name: str
    worker: str
    deliver: Callable[[Claimed], None]
    lease_ms: int = 0
    credit: int = 0
    reserved: int = 0
    closed: bool = False
    _paused_credit: int | None = None  # the real credit while paused; `credit` is 0 then
    _changed: trio.Event = attrs.field(factory=trio.Event)

    @property
    def granted(self) -> int:
        """How many attempts may still be delivered: the credit, paused or not, and the reserved places."""
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
        """Keep places free for attempts on their way."""
        self.credit -= places
        self.reserved += places

    def take(self, body: bytes, receipt: Receipt) -> None:
        """Deliver an attempt into a reserved place."""
        self.settle(Claimed((body,), (), (receipt,)))

    def release(self) -> None:
        """Nothing came for a reserved place: it is free again."""
        self.settle(None)

    def settle(self, claimed: Claimed | None, places: int = 1) -> None:
        """Deliver what came for `places` reserved places; the rest of them are free again."""
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
        """Returns when no place is reserved."""
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
