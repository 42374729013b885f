"""Injects faults by the seed, and repairs them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial

import trio

from tests.simulation.membership import Gossip
from tests.simulation.node import Node
from tests.simulation.world import World

#: Up to longer than a lease, so that another node takes over.
FREEZE_SECONDS = (0.5, 25.0)


class Nemesis:
    """Injects the faults of the profile until its time is over. `nursery` is that of the nodes."""

    def __init__(self, world: World, nodes: Sequence[Node], gossip: Gossip, nursery: trio.Nursery) -> None:
        self._world = world
        self._nodes = nodes
        self._gossip = gossip
        self._nursery = nursery
        self._rng: random.Random = world.stream("nemesis")

    async def run(self) -> None:
        """Inject faults; when this returns, all are repaired."""
        world, rng = self._world, self._rng
        with trio.move_on_after(world.profile.fault_seconds):
            while True:
                await trio.sleep(rng.expovariate(1 / world.profile.between_faults_seconds))
                if world.profile.faults:
                    fault = rng.choice(world.profile.faults)
                    world.count(f"fault: {fault}")
                    self._nursery.start_soon(self._inject, fault)
        world.heal()
        self._gossip.cuts.clear()
        self._gossip.false_views.clear()
        for node in self._nodes:
            if node.store_cut:
                node.cut_store(False)
            if node.slow_seconds:
                node.slow_store(0.0)
            node.freeze(False)
            if node.life is None:
                node.start(self._nursery)
            node.life.link.trap = None  # type: ignore[union-attr]

    async def _inject(self, fault: str) -> None:
        rng = self._rng
        node = rng.choice(self._nodes)
        match fault:
            case "crash":
                node.crash()
                await self._start_again(node)
            case "crash in a store call":
                if node.life is not None:
                    node.life.link.trap = (rng.choice(("before", "after")), node.crash)
                    await self._wait(rng.uniform(1, 5))
                    await self._start_again(node)
            case "restart":
                await node.stop()
                await self._start_again(node)
            case "freeze":
                await self._freeze(node)
            case "freeze in a store call":
                if node.life is not None:
                    node.life.link.trap = (
                        rng.choice(("before", "after", "after")),
                        partial(self._nursery.start_soon, self._freeze, node),
                    )
            case "store cut":
                node.cut_store(True)
                await self._wait(rng.choice((0.5, 4, 15)))
                if node.store_cut:
                    node.cut_store(False)
            case "store slow":
                node.slow_store(rng.choice((0.1, 1.0, 6.0)))
                await self._wait(rng.uniform(1, 10))
                if node.slow_seconds:
                    node.slow_store(0.0)
            case _:
                await self._mislead(fault, node)

    async def _freeze(self, node: Node) -> None:
        """Freeze a node for a while."""
        node.freeze(True)
        try:
            await self._wait(self._rng.uniform(*FREEZE_SECONDS))
        finally:  # also if a broken rule ends the run: a frozen task cannot end
            node.freeze(False)

    async def _mislead(self, fault: str, node: Node) -> None:
        """Give a node a wrong view of another one."""
        pair = (node.name, self._rng.choice(self._nodes).name)
        if pair[0] == pair[1]:
            return
        if fault == "one-way cut":
            self._gossip.cuts.add(pair)
            await self._wait(self._rng.uniform(1, 15))
            self._gossip.cuts.discard(pair)
        else:
            self._gossip.false_views[pair] = "dead" if fault == "false death" else "suspect"
            await self._wait(self._rng.uniform(0.5, 10))
            self._gossip.false_views.pop(pair, None)

    async def _start_again(self, node: Node) -> None:
        await self._wait(self._rng.choice((0.0, 1.0, 5.0, 20.0)))
        if node.life is None:
            node.start(self._nursery)

    async def _wait(self, seconds: float) -> None:
        with trio.move_on_after(seconds):
            await self._world.healed.wait()
