"""Nurseries whose one error comes out as itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


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
