"""Fills a store with finished flows, and prints how many there are after each batch.

`python -m bench.store.loader REDIS_PORT FLOWS`.
"""

from __future__ import annotations

import itertools
import sys

import trio

from bench.harness.commits import finished_threes
from bench.harness.redis_servers import RedisServers
from bench.store.opening import open_store
from orchy.store.flows import Committed

COMMITS_AT_ONCE = 500
WRITERS = 2


async def fill(port: int, count: int) -> None:
    """Commit in batches; two writers overlap making the next batch with sending the last one."""
    commits = finished_threes(count)
    done = 0

    async def write() -> None:
        nonlocal done
        while batch := list(itertools.islice(commits, COMMITS_AT_ONCE)):
            for outcome in await store.commit_all(batch):
                if not isinstance(outcome, Committed):
                    raise SystemExit(f"a flow was refused: {outcome}")
            done += len(batch)
            print(done, flush=True)

    async with open_store(RedisServers((port,), ())) as (_, store), trio.open_nursery() as nursery:
        for _ in range(WRITERS):
            nursery.start_soon(write)


if __name__ == "__main__":
    trio.run(fill, int(sys.argv[1]), int(sys.argv[2]))
