"""Concurrency: flows that are started with one call, and clients that send events to one flow simultaneously."""

from __future__ import annotations

import random
from collections.abc import Sequence

import trio

from orchy.engine.starts import StartRequest
from orchy.errors import OrchyError
from tests.simulation.callers import RETRY_SECONDS, Client, Cluster
from tests.simulation.node import LIMITS, Life, NoAnswer, Node
from tests.simulation.profile import Profile
from tests.simulation.workload import EVENTS

#: Flows that impatient callers send events to in turn: more than a node caches.
IMPATIENT_FLOWS = LIMITS.cached_flows + 1
IMPATIENT_ROUNDS = 2
#: The most impatient callers at a time.
IMPATIENT_MAX = 8
#: Events that one crowd sends in all. A flow keeps at most 1,000.
EVENTS_MAX = 240


def draw_batches(rng: random.Random, profile: Profile, clients: Sequence[Client]) -> list[list[Client]]:
    """Which clients start their flows together. Most of a batch share a workflow, and so its queues."""
    batches: list[list[Client]] = []
    for client in clients:
        if batches and rng.random() < profile.batches:
            batches[-1].append(client)
            if rng.random() < 0.7:
                client.workflow = batches[-1][0].workflow
        else:
            batches.append([client])
    return batches


class Batch:
    """Clients that start their flows together, repeating until each is started, and then use them separately."""

    def __init__(self, cluster: Cluster, number: int, clients: Sequence[Client]) -> None:
        self._cluster = cluster
        self._clients = clients
        self._rng = cluster.world.stream(f"batch {number}")

    async def run(self) -> None:
        """Start all flows, then use them."""
        rng, world = self._rng, self._cluster.world
        await trio.sleep(rng.uniform(0, world.profile.fault_seconds * 0.4))
        for _ in range(rng.choice((1, 1, 2))):
            left = list(self._clients)
            while left:
                left = await self._start(left)
        async with trio.open_nursery() as nursery:
            for client in self._clients:
                nursery.start_soon(client.use)

    async def _start(self, clients: Sequence[Client]) -> list[Client]:
        """One call; the clients whose flows it did not start."""
        starts = [StartRequest(client.workflow, client.input, None, client.flow_id) for client in clients]

        async def start(life: Life) -> Sequence[object]:
            return await life.engine.starts.start_many(starts)

        try:
            outcomes = await self._cluster.call(self._rng, start, leaves=1.0)
        except (NoAnswer, OrchyError):
            await trio.sleep(RETRY_SECONDS)
            return list(clients)
        self._cluster.world.count("batches of starts")
        left = []
        for client, outcome in zip(clients, outcomes, strict=True):
            if isinstance(outcome, OrchyError):
                left.append(client)
            else:
                client.note_started()
        if left:
            await trio.sleep(RETRY_SECONDS)
        return left


class Crowd:
    """Sends bursts of events to one flow, each event from a client of its own; many clients leave at once.

    Most events of a burst go to one node. Of those that the flow waits for the first is taken, the others are kept.
    """

    def __init__(self, cluster: Cluster, number: int, client: Client) -> None:
        self._cluster = cluster
        self._client = client
        self._rng = cluster.world.stream(f"crowd {number}")

    async def run(self) -> None:
        """Send bursts until the world is healed."""
        rng, world = self._rng, self._cluster.world
        left = EVENTS_MAX
        while left > 0 and not world.healed.is_set():
            with trio.move_on_after(rng.uniform(0.1, 3)):
                await world.healed.wait()
            if self._client.started:
                most = world.profile.burst_events
                events = rng.choice((2, most, most))
                left -= events
                await self._send(events)

    async def _send(self, events: int) -> None:
        rng, client = self._rng, self._client
        self._cluster.world.count("bursts of events")
        node = rng.choice(self._cluster.nodes)
        awaited = self._cluster.checker.books[client.flow_id].awaited
        async with trio.open_nursery() as nursery:
            for _ in range(events):
                event = rng.choice(awaited) if awaited and rng.random() < 0.4 else EVENTS[0]
                at = node if rng.random() < 0.9 else None
                nursery.start_soon(self._cluster.send_event, rng, client.workflow, client.flow_id, event, at)


class Impatient:
    """Crowds at nodes that have to load the flow first; some callers leave before the store has answered.

    A commit is completed whoever leaves, but while the flow is loaded, the caller that does the work for the others can
    be cancelled. Nothing else breaks here, so all callers that stay must be answered. This scene comes last, with flows
    and random numbers of its own, so that it changes nothing of the seed before it.
    """

    def __init__(self, cluster: Cluster, number: int, workflow: str) -> None:
        """`number` is that of the first flow."""
        self._cluster = cluster
        self._clients = [Client(cluster, number + flow, workflow) for flow in range(IMPATIENT_FLOWS)]
        self._rng = cluster.world.stream("impatient")

    async def run(self) -> None:
        """Start the flows, send events to each in turn, and cancel them."""
        for client in self._clients:
            await client.start()
        for _ in range(IMPATIENT_ROUNDS):
            for client in self._clients:
                await self._send(client, self._rng.choice(self._cluster.nodes))
        for client in self._clients:
            await client.cancel()

    async def _send(self, client: Client, node: Node) -> None:
        """Send all at the same moment; the scheduler decides which caller does the work, and for whom."""
        rng, cluster = self._rng, self._cluster
        cluster.world.count("bursts of the impatient")
        slow_seconds = rng.choice((0.05, 0.3))
        node.slow_store(slow_seconds)
        awaited = cluster.checker.books[client.flow_id].awaited
        callers = rng.randint(3, IMPATIENT_MAX)
        async with trio.open_nursery() as nursery:
            for _ in range(callers):
                event = rng.choice(awaited) if awaited and rng.random() < 0.2 else EVENTS[0]
                to = (client.workflow, client.flow_id, event, node)
                if rng.random() < 0.5:
                    nursery.start_soon(cluster.send_and_leave, *to, rng.uniform(0, 2 * slow_seconds))
                else:
                    nursery.start_soon(cluster.send_event, rng, *to)
        node.slow_store(0.0)
