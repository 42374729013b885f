"""A slot of a Redis Cluster that moves while flows run in it: what each layout loses, and how long it pauses.

The slot moves as `redis-cli --cluster reshard` moves one: MIGRATING and IMPORTING are set, keys follow a few at a time,
then all masters are told. Or at once, where the server can (CLUSTER MIGRATESLOTS).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

import attrs
import redis
import trio
from msgspec.structs import replace
from redis.crc import key_slot

from bench.harness.redis_servers import SLOTS, RedisServers
from bench.store.layouts.store import Layout
from bench.store.layouts.work import Flows, straight
from bench.store.opening import open_store
from orchy.errors import StoreError
from orchy.flow.execution import State
from orchy.store.flows import Commit, Committed
from orchy.store.redis import RedisStore

PARTITION = 7
NAMESPACE = "orchy"
KEYS_AT_A_TIME = 10
WRITERS = 8
RETRY_SECONDS = 0.005
GIVE_UP_SECONDS = 20.0


@attrs.frozen
class Moved:
    """What came of a move: flows that did not come to their end in order, how often keys were found on both masters,
    and the longest wait for a commit."""

    stranded: int
    twice: int
    pause_ms: float
    move_ms: float
    errors: Counter[str]


class Mover:
    """Moves the slot of the partition to the next master."""

    def __init__(self, servers: RedisServers) -> None:
        self._clients = [redis.Redis(port=port) for port in servers.ports]
        self._ids = [client.execute_command("CLUSTER MYID").decode() for client in self._clients]
        self.slot = key_slot(f"{{{NAMESPACE}:{PARTITION}}}:".encode())
        self.twice = 0
        count = len(self._clients)
        self.source = next(n for n in range(count) if SLOTS * n // count <= self.slot < SLOTS * (n + 1) // count)
        self.target = (self.source + 1) % count

    def errors(self) -> Counter[str]:
        """How often the masters have answered with each error so far."""
        found: Counter[str] = Counter()
        for client in self._clients:
            for name, stat in client.info("errorstats").items():
                found[name.removeprefix("errorstat_")] += stat["count"]
        return found

    def by_keys(self) -> None:
        """Key by key."""
        source, target = self._clients[self.source], self._clients[self.target]
        port = target.connection_pool.connection_kwargs["port"]
        target.execute_command("CLUSTER SETSLOT", self.slot, "IMPORTING", self._ids[self.source])
        source.execute_command("CLUSTER SETSLOT", self.slot, "MIGRATING", self._ids[self.target])
        while keys := source.execute_command("CLUSTER GETKEYSINSLOT", self.slot, KEYS_AT_A_TIME):
            command = ["MIGRATE", "127.0.0.1", port, "", 0, 5000]
            try:
                source.execute_command(*command, "KEYS", *keys)
            except redis.ResponseError as error:
                if "BUSYKEY" not in str(error):
                    raise
                self.twice += 1  # what `redis-cli --cluster fix` does then
                source.execute_command(*command, "REPLACE", "KEYS", *keys)
            time.sleep(0.001)
        for client in (target, source, *self._clients):
            client.execute_command("CLUSTER SETSLOT", self.slot, "NODE", self._ids[self.target])

    def at_once(self) -> None:
        """All of the slot, atomically. Raises redis.ResponseError where the server can't."""
        source = self._clients[self.source]
        source.execute_command(
            "CLUSTER MIGRATESLOTS", "SLOTSRANGE", self.slot, self.slot, "NODE", self._ids[self.target]
        )
        while not self._clients[self.target].execute_command("CLUSTER COUNTKEYSINSLOT", self.slot) or not self._done():
            time.sleep(0.002)

    def _done(self) -> bool:
        jobs = self._clients[self.source].execute_command("CLUSTER GETSLOTMIGRATIONS")
        states = [str(job) for job in jobs]
        return all("success" in state for state in states)


def measure(servers: RedisServers, flows: int, *, spike: bool, at_once: bool) -> Moved:
    """Run flows in a partition whose slot moves meanwhile."""
    return trio.run(_measure, servers, flows, spike, at_once)


async def _measure(servers: RedisServers, count: int, spike: bool, at_once: bool) -> Moved:
    flows = [[replace(one, partition=PARTITION) for one in flow] for flow in straight(Flows(count, queued=False))]
    mover = Mover(servers)
    before = mover.errors()
    async with open_store(servers) as (client, store):
        layout = Layout(client, NAMESPACE) if spike else None
        if layout:
            await layout.own([PARTITION])
        waited = [0.0]
        waiting = list(flows)
        taken: list[float] = []

        async def write() -> None:
            while waiting:
                for commit in waiting.pop(0):
                    began = trio.current_time()
                    if not await _commit(layout or store, commit):
                        break
                    waited.append(trio.current_time() - began)

        async def move() -> None:
            while len(waiting) > count // 2:  # the slot has something in it
                await trio.sleep(0.001)
            began = time.perf_counter()
            await trio.to_thread.run_sync(mover.at_once if at_once else mover.by_keys)
            taken.append(time.perf_counter() - began)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(move)
            for _ in range(WRITERS):
                nursery.start_soon(write)
        stranded = sum([not await _in_order(layout or store, flow) for flow in flows])
    return Moved(stranded, mover.twice, max(waited) * 1e3, taken[0] * 1e3, mover.errors() - before)


async def _commit(store: Layout | RedisStore, commit: Commit) -> bool:
    """Make a commit, however often the store can't be reached."""
    give_up_at = trio.current_time() + GIVE_UP_SECONDS
    while trio.current_time() < give_up_at:
        if isinstance(store, RedisStore):
            (outcome,) = await store.commit_all([commit])
        else:
            known = attrs.evolve(store.cache[commit.flow_id]) if commit.expected_version else None
            try:
                return (await store.commit_all([commit]))[0] is None
            except StoreError as error:
                outcome = error
                if known:
                    store.cache[commit.flow_id] = known
        if isinstance(outcome, Committed):
            return True
        if "TRYAGAIN" not in str(outcome):
            return False
        await trio.sleep(RETRY_SECONDS)
    return False


async def _in_order(store: Layout | RedisStore, commits: Sequence[Commit]) -> bool:
    """Whether a flow has all of its commits, and is where it can be found."""
    flow_id = commits[0].flow_id
    if isinstance(store, Layout):
        folded = await store.load(PARTITION, flow_id)
        return folded is not None and folded.state == State.COMPLETED and len(folded.finished) == len(commits) - 1
    stored = await store.load(PARTITION, flow_id)
    return stored is not None and stored.version == len(commits) and stored.ended_ms is not None
