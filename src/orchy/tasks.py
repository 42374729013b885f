"""Nurseries whose one error comes out as itself, and tasks whose results are wanted in order."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TypeVar

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
