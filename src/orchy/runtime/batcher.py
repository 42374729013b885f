"""Tasks that share one call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

import attrs
import trio

_T = TypeVar("_T")
_R = TypeVar("_R")


@attrs.define(eq=False)
class _Request:
    item: Any
    done: trio.Event = attrs.field(factory=trio.Event)
    outcome: Any = None


class Batcher(Generic[_T, _R]):
    """Collects the items that tasks pass to `do` in one turn of the scheduler, and handles them in a single call.

    The first task waits for the end of the turn and makes the call. It is shielded from cancellation while it does, as
    the others depend on it. The call returns an outcome for each item; an exception is raised in the task of its item.
    """

    def __init__(self, do: Callable[[Sequence[_T]], Awaitable[Sequence[_R | Exception]]]) -> None:
        self._do = do
        self._requests: list[_Request] = []

    async def do(self, item: _T) -> _R:
        """The outcome for this item."""
        request = _Request(item)
        self._requests.append(request)
        if len(self._requests) > 1:
            await request.done.wait()
        else:
            with trio.CancelScope(shield=True):
                await trio.lowlevel.checkpoint()
                await self._do_all()
        if isinstance(request.outcome, Exception):
            raise request.outcome
        outcome: _R = request.outcome
        return outcome

    async def _do_all(self) -> None:
        requests, self._requests = self._requests, []
        try:
            outcomes: Sequence[Any] = await self._do([request.item for request in requests])
        except Exception as error:
            outcomes = [error] * len(requests)
        for request, outcome in zip(requests, outcomes, strict=True):
            request.outcome = outcome
            request.done.set()
