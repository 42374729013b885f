"""Pools of each engine, and the worker processes that they start."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from orchy.actions.javascript.pool import Pool, open_pool

ENGINES = ("quickjs", "v8")


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """Each engine in turn."""
    return str(request.param)


@pytest.fixture
async def pool(engine: str) -> AsyncIterator[Pool]:
    """A pool with a time limit that harmless scripts do not reach even on a busy machine."""
    async with open_pool(engine, 2, 10.0) as opened:
        yield opened


@pytest.fixture
def worker_pids() -> Callable[[int], list[int]]:
    """The worker processes of a parent, including zombies."""

    def find(parent: int) -> list[int]:
        found = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit() and (stat := read(folder / "stat")):
                fields = stat.rpartition(")")[2].split()
                command = read(folder / "cmdline")
                if int(fields[1]) == parent and ("javascript/start.py" in command or fields[0] == "Z"):
                    found.append(int(folder.name))
        return found

    def read(path: Path) -> str:
        try:
            return path.read_text()
        except OSError:  # it is gone
            return ""

    return find


@pytest.fixture
def my_workers(worker_pids: Callable[[int], list[int]]) -> Callable[[], list[int]]:
    """The worker processes of this process."""
    return lambda: worker_pids(os.getpid())
