"""Many at once: flows that are started with one call, clients that send events to one flow at the same moment."""

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

#: Flows that the impatient send events to in turn: more than a node has in its cache.
IMPATIENT_FLOWS = LIMITS.cached_flows + 1
IMPATIENT_ROUNDS = 2
#: How many of them there are at once, at most.
IMPATIENT_MAX = 8
#: Events that one crowd sends in all: a flow keeps no more than 1,000.
EVENTS_MAX = 240


def draw_batches(rng: random.Random, profile: Profile, clients: Sequence[Client]) -> list[list[Client]]:
    """Which clients start their flows together; most have one workflow, and so queues in common."""
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
    """Clients whose flows are started together, again and again until each is; then each does as it likes."""

    def __init__(self, cluster: Cluster, number: int, clients: Sequence[Client]) -> None:
        self._cluster = cluster
        self._clients = clients
        self._rng = cluster.world.stream(f"batch {number}")

    async def run(self) -> None:
        """Start them and let them go on."""
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
        """Those that are to be started again."""
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
    """Has a flow, and sends it bursts of events, each event by a client of its own; many of them leave at once.

    Most go to one node; of those that the flow waits for the first is taken, all others are kept.
    """

    def __init__(self, cluster: Cluster, number: int, client: Client) -> None:
        self._cluster = cluster
        self._client = client
        self._rng = cluster.world.stream(f"crowd {number}")

    async def run(self) -> None:
        """Until the world is healed."""
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
    """Crowds at nodes that have to load the flow first, whose callers leave before the store has answered.

    A commit is made to its end whoever leaves; it is while a flow is loaded that the caller that leads the others can
    be cancelled. Nothing else breaks here, and so all who stay must be answered. They come last, with flows and chance
    of their own, and leave what a seed does before as it is.
    """

    def __init__(self, cluster: Cluster, number: int, workflow: str) -> None:
        """`number` is the first of their flows."""
        self._cluster = cluster
        self._clients = [Client(cluster, number + flow, workflow) for flow in range(IMPATIENT_FLOWS)]
        self._rng = cluster.world.stream("impatient")

    async def run(self) -> None:
        """Start the flows, send to each in turn, and cancel them."""
        for client in self._clients:
            await client.start()
        for _ in range(IMPATIENT_ROUNDS):
            for client in self._clients:
                await self._send(client, self._rng.choice(self._cluster.nodes))
        for client in self._clients:
            await client.cancel()

    async def _send(self, client: Client, node: Node) -> None:
        """All at the same moment: who leads, and whose events it takes along, is the scheduler's to say."""
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
