"""An engine on the in-memory store and a virtual clock, with the parts around it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import trio

from orchy.store.memory.store import MemoryStore
from tests.engine.parts import Engine, make_engine


@pytest.fixture
def engines():
    """Makes engines on a store."""
    return make_engine


@pytest.fixture
def store(autojump_clock: Any) -> MemoryStore:
    return MemoryStore(trio.current_time)


@pytest.fixture
async def engine(store: MemoryStore, nursery: trio.Nursery) -> Engine:
    """A node whose loops run, in virtual time."""
    engine = make_engine(store)
    await nursery.start(engine.keeper.run)
    nursery.start_soon(engine.timers.run)
    return engine


@pytest.fixture
def user() -> Iterator[Any]:
    """A user action of a definition."""

    def make(id: int, name: str, next: Any = None, **more: Any) -> dict[str, Any]:
        return {"id": id, "type": "user", "name": name, **({"next": next} if next else {}), **more}

    return make
