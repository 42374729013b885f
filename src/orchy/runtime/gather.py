"""Concurrent calls whose results come back in order."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

from orchy.runtime.nurseries import open_service_nursery

_T = TypeVar("_T")
_R = TypeVar("_R")


async def gather(each: Callable[[_T], Awaitable[_R]], items: Iterable[_T], at_once_max: int | None = None) -> list[_R]:
    """`await each(item)` for all items, at most `at_once_max` at a time; the results in the order of the items."""
    items = list(items)
    if len(items) < 2:  # not worth a task
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


async def gather_groups(
    each: Callable[[Sequence[_T]], Awaitable[Sequence[_R]]], items: Sequence[_T], group_max: int, at_once_max: int
) -> list[_R]:
    """`await each(group)` for groups of at most `group_max` items; their results in one list, in order."""
    groups = [items[first : first + group_max] for first in range(0, len(items), group_max)]
    return [result for results in await gather(each, groups, at_once_max) for result in results]
