"""Nurseries whose one error comes out as itself, tasks whose results are wanted in order, tasks that share a call."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar

import attrs
import trio

_T = TypeVar("_T")
_R = TypeVar("_R")


@asynccontextmanager
async def open_service_nursery() -> AsyncIterator[trio.Nursery]:
    """A nursery that raises the first error in it, not a group, so that callers can name what they expect.

    The other tasks were cancelled by then; what else they raised is the error's `__context__`.
    """
    try:
        async with trio.open_nursery() as nursery:
            yield nursery
    except BaseExceptionGroup as group:
        raise first_error(group) from None


def first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """What went wrong first; cancellations only where there is nothing else."""
    rest = group.split(trio.Cancelled)[1]
    error: BaseException = rest if rest is not None else group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def gather(each: Callable[[_T], Awaitable[_R]], items: Iterable[_T], at_once_max: int | None = None) -> list[_R]:
    """`await each(item)` for all items, at most `at_once_max` at a time; the results in the order of the items."""
    items = list(items)
    if len(items) < 2:  # no tasks for what one can do alone
        return [await each(item) for item in items]
    results: dict[int, _R] = {}
    left = iter(enumerate(items))

    async def work() -> None:
        for index, item in left:
            results[index] = await each(item)

    async with open_service_nursery() as nursery:
        for _ in range(min(len(items), at_once_max or len(items))):
            nursery.start_soon(work)
    return [results[index] for index in range(len(items))]


@attrs.define(eq=False)
class _Wish:
    item: Any
    done: trio.Event = attrs.field(factory=trio.Event)
    outcome: Any = None


class Together(Generic[_T, _R]):
    """What tasks want in the same turn of the scheduler is done by one call, `do`, for all of them.

    The first one waits for the end of the turn and makes the call; it is not cancelled meanwhile, as the others would
    be left alone. What `do` gives for an item is that item's; an exception there is raised to the task that wanted it.
    """

    def __init__(self, do: Callable[[Sequence[_T]], Awaitable[Sequence[_R | Exception]]]) -> None:
        self._do = do
        self._wishes: list[_Wish] = []

    async def do(self, item: _T) -> _R:
        """What came of this item."""
        wish = _Wish(item)
        self._wishes.append(wish)
        if len(self._wishes) > 1:
            await wish.done.wait()
        else:
            with trio.CancelScope(shield=True):
                await trio.lowlevel.checkpoint()
                await self._do_all()
        if isinstance(wish.outcome, Exception):
            raise wish.outcome
        outcome: _R = wish.outcome
        return outcome

    async def _do_all(self) -> None:
        wishes, self._wishes = self._wishes, []
        try:
            outcomes: Sequence[Any] = await self._do([wish.item for wish in wishes])
        except Exception as error:
            outcomes = [error] * len(wishes)
        for wish, outcome in zip(wishes, outcomes, strict=True):
            wish.outcome = outcome
            wish.done.set()
