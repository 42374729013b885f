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


async def gather(each: Callable[[_T], Awaitable[_R]], items: Iterable[_T]) -> list[_R]:
    """`await each(item)` for all items at once; the results in the order of the items."""
    items = list(items)
    results: dict[int, _R] = {}

    async def one(index: int, item: _T) -> None:
        results[index] = await each(item)

    async with open_service_nursery() as nursery:
        for index, item in enumerate(items):
            nursery.start_soon(one, index, item)
    return [results[index] for index in range(len(items))]
