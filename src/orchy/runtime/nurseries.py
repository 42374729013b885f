"""Nurseries that raise the first error instead of an exception group."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


@asynccontextmanager
async def open_service_nursery() -> AsyncIterator[trio.Nursery]:
    """A nursery that raises its first error, not a group, so that callers can catch it by type.

    The other tasks have been cancelled by then; what else was raised is in the error's `__context__`.
    """
    try:
        async with trio.open_nursery() as nursery:
            yield nursery
    except BaseExceptionGroup as group:
        raise first_error(group) from None


def first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error of a group; a cancellation only if there is nothing else."""
    rest = group.split(trio.Cancelled)[1]
    error: BaseException = rest if rest is not None else group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
