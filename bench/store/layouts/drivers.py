"""Today's store and the spikes, driven alike."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal

import attrs

from bench.harness.redis_servers import RedisServers
from bench.harness.work import STEP
from bench.store.layouts.store import Form, Layout, Taken
from bench.store.layouts.work import ALL_PARTITIONS, WORKER, Driven
from bench.store.opening import open_store
from orchy.store.flows import Commit, Committed
from orchy.store.leases import Lease
from orchy.store.queues import Claimed
from orchy.store.redis import RedisStore

HOUR_MS = 3_600_000
#: Commits that a node has ready at a time. They leave in one write, in one call or several.
AT_ONCE = 32


@attrs.define
class Today:
    """The store as it is: a call for each commit."""

    store: RedisStore
    leases: Sequence[Lease]

    async def commit(self, commits: Sequence[Commit]) -> None:
        for first in range(0, len(commits), AT_ONCE):
            outcomes = await self.store.commit_all(commits[first : first + AT_ONCE])
            assert all(isinstance(outcome, Committed) for outcome in outcomes), outcomes

    async def claim(self, partitions: Sequence[int], limit: int) -> list[tuple[str, Any]]:
        claimed = await self.store.claim(STEP, partitions, limit, WORKER)
        pairs = zip(claimed.bodies, claimed.receipts, strict=True)
        return [(receipt.flow_id, (body, receipt)) for body, receipt in pairs]

    async def give_back(self, taken: Sequence[Any]) -> int:
        return await self.store.give_back(Claimed([body for body, _ in taken], [], [receipt for _, receipt in taken]))

    async def scan(self, partitions: Sequence[int]) -> list[str]:
        scans = await self.store.scan(self.leases, 100, 10_000)
        return [timer.key.flow_id for one in scans for timer in one.due]

    async def expire(self, partitions: Sequence[int]) -> int:
        return await self.store.expire(self.leases, 100)


@attrs.define
class Spike:
    """One of the spikes."""

    layout: Layout

    async def commit(self, commits: Sequence[Commit]) -> None:
        for first in range(0, len(commits), AT_ONCE):
            outcomes = await self.layout.commit_all(commits[first : first + AT_ONCE])
            assert not any(outcomes), outcomes

    async def claim(self, partitions: Sequence[int], limit: int) -> list[tuple[str, Any]]:
        taken = await self.layout.claim(STEP, partitions, limit, WORKER)
        return [(one.attempt.rpartition(":")[2], one) for one in taken]

    async def give_back(self, taken: Sequence[Taken]) -> int:
        return await self.layout.give_back(STEP, taken)

    async def scan(self, partitions: Sequence[int]) -> list[str]:
        return [flow_id.decode() for _, _, due in await self.layout.scan(partitions) for flow_id in due]

    async def expire(self, partitions: Sequence[int]) -> int:
        return sum([await self.layout.expire(partition) for partition in partitions])


@attrs.frozen
class Variant:
    """A layout with its settings; without a form it is today's."""

    name: str
    form: Form | None = None
    batch: int = 32
    several: bool = True
    timers: Literal["flow", "one", "two"] = "flow"
    finished: Literal["list", "index"] = "list"
    trims: bool = True

    @asynccontextmanager
    async def open(self, servers: RedisServers) -> AsyncIterator[Driven]:
        """Drive it on an empty Redis."""
        servers.clear()
        async with open_store(servers) as (redis, store):
            if self.form is None:
                yield Today(store, await store.acquire(ALL_PARTITIONS, "node", HOUR_MS))
            else:
                layout = Layout(
                    redis, "orchy", self.form, self.batch, self.several, self.timers, self.finished, trims=self.trims
                )
                await layout.own(ALL_PARTITIONS)
                yield Spike(layout)
