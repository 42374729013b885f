"""Many at once: flows that are started with one call, clients that send events to one flow at the same moment."""

from __future__ import annotations

import random
from collections.abc import Sequence

import trio

from orchy.errors import OrchyError
from orchy.starts import Start, start_all
from tests.simulation.callers import AGAIN_SECONDS, Client, Cluster
from tests.simulation.node import Life, NoAnswer
from tests.simulation.profile import Profile
from tests.simulation.workload import EVENTS

#: Events that one crowd sends in all, so that kept ones do not end all waits at once.
EVENTS_MAX = 90


def draw_batches(chance: random.Random, profile: Profile, clients: Sequence[Client]) -> list[list[Client]]:
    """Which clients start their flows together; most have one workflow, and so queues in common."""
    batches: list[list[Client]] = []
    for client in clients:
        if batches and chance.random() < profile.batches:
            batches[-1].append(client)
            if chance.random() < 0.7:
                client.workflow = batches[-1][0].workflow
        else:
            batches.append([client])
    return batches


class Batch:
    """Clients whose flows are started together, again and again until each is; then each does as it likes."""

    def __init__(self, cluster: Cluster, number: int, clients: Sequence[Client]) -> None:
        self._cluster = cluster
        self._clients = clients
        self._chance = cluster.world.stream(f"batch {number}")

    async def run(self) -> None:
        """Start them and let them go on."""
        chance, world = self._chance, self._cluster.world
        await trio.sleep(chance.uniform(0, world.profile.fault_seconds * 0.4))
        for _ in range(chance.choice((1, 1, 2))):
            left = list(self._clients)
            while left:
                left = await self._start(left)
        async with trio.open_nursery() as nursery:
            for client in self._clients:
                nursery.start_soon(client.use)

    async def _start(self, clients: Sequence[Client]) -> list[Client]:
        """Those that are to be started again."""
        starts = [Start(client.workflow, client.input, None, client.flow_id) for client in clients]

        async def start(life: Life) -> Sequence[object]:
            return await start_all(life.orchestrator, life.catalog, starts)

        try:
            outcomes = await self._cluster.call(self._chance, start, leaves=1.0)
        except (NoAnswer, OrchyError):
            await trio.sleep(AGAIN_SECONDS)
            return list(clients)
        self._cluster.world.count("batches of starts")
        left = []
        for client, outcome in zip(clients, outcomes, strict=True):
            if isinstance(outcome, OrchyError):
                left.append(client)
            else:
                client.note_started()
        if left:
            await trio.sleep(AGAIN_SECONDS)
        return left


class Crowd:
    """Sends bursts of events, each event by a client of its own, mostly to one node; some clients leave at once."""

    def __init__(self, cluster: Cluster, number: int, clients: Sequence[Client]) -> None:
        self._cluster = cluster
        self._clients = clients
        self._chance = cluster.world.stream(f"crowd {number}")

    async def run(self) -> None:
        """Until the world is healed."""
        chance, world = self._chance, self._cluster.world
        victim = chance.choice(self._clients)
        left = EVENTS_MAX
        while left > 0 and not world.healed.is_set():
            with trio.move_on_after(chance.uniform(0.1, 8)):
                await world.healed.wait()
            if victim.started:
                most = world.profile.burst_events
                events = chance.choice((2, most // 2, most))
                left -= events
                await self._send(victim, events)

    async def _send(self, victim: Client, events: int) -> None:
        chance = self._chance
        self._cluster.world.count("bursts of events")
        node = chance.choice(self._cluster.nodes)
        async with trio.open_nursery() as nursery:
            for _ in range(events):
                event = EVENTS[0] if chance.random() < 0.7 else EVENTS[1]
                at = node if chance.random() < 0.8 else None
                nursery.start_soon(self._cluster.send_event, chance, victim.workflow, victim.flow_id, event, at)
