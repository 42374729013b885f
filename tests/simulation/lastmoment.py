"""Workers that return results at the moment of the timeout, at nodes that scan and commit slowly."""

from __future__ import annotations

import json
import random
from collections.abc import Awaitable
from functools import partial

import trio

from orchy.engine.catalog import Catalog
from orchy.engine.orchestrator import Result
from orchy.errors import OrchyError
from orchy.flow.definition import ActionDefinition, RetryPolicy
from tests.simulation.books import require
from tests.simulation.callers import RETRY_SECONDS, Client, Cluster
from tests.simulation.decoding import Attempt, read_attempt
from tests.simulation.node import Life, NoAnswer
from tests.simulation.plan import Plan

#: An action that no other worker takes, and a workflow of nothing else.
RACE = ActionDefinition("race", 4, 0, RetryPolicy.FIXED, 1)
RACES = {
    "name": "races",
    "rootAction": 1,
    "onSuccess": "NOOP",
    "onFailure": "NOOP",
    "actions": [{"id": 1, "type": "user", "name": RACE.name, "parameters": {"of": "{$.input.s1}"}, "next": {}}],
}
FLOWS = 4
SLOW_SECONDS = 0.3
#: The latest result after the timeout. By then a scan has found the timer, and the timeout is being committed.
LATE_SECONDS_MAX = 0.5
#: Enough for all attempts of a flow.
END_SECONDS = 60.0


class LastMoment:
    """Flows of one action that fails again and again, each time when its timeout is about to be handled.

    It is retried at once, so that the next attempt begins before the timeout of the previous one is committed. This
    scene comes last, with flows and random numbers of its own, so that it changes nothing of the seed before it.
    """

    def __init__(self, cluster: Cluster, number: int) -> None:
        """`number` is that of the first flow."""
        self._cluster = cluster
        self._clients = [Client(cluster, number + flow, str(RACES["name"])) for flow in range(FLOWS)]
        self._rng: random.Random = cluster.world.stream("last moment")

    async def run(self, catalog: Catalog) -> None:
        """Start the flows and wait until each has failed."""
        checker, nodes = self._cluster.checker, self._cluster.nodes
        checker.definitions[RACE.name] = RACE
        checker.plans[str(RACES["name"])] = Plan(RACES)
        await catalog.save_action(RACE)
        await catalog.save_workflow(json.dumps(RACES).encode())
        await trio.sleep(2)  # until each node has the definition
        for client in self._clients:
            await client.start()
        for node in nodes:
            node.slow_store(SLOW_SECONDS)
        with trio.move_on_after(END_SECONDS):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._poll, nursery)
                while not all(checker.books[client.flow_id].over for client in self._clients):
                    await trio.sleep(0.5)
                nursery.cancel_scope.cancel()
        require(not checker.open_flows(), "every accepted flow ends", "one whose attempts fail at the last moment")
        for node in nodes:
            node.slow_store(0.0)

    async def _poll(self, nursery: trio.Nursery) -> None:
        def poll(life: Life) -> Awaitable[list[bytes]]:
            return life.dispatcher.poll(RACE.name, FLOWS, 1.0, "last")

        while True:
            try:
                bodies = await self._cluster.call(self._rng, poll, 1.0)
            except OrchyError:
                await trio.sleep(RETRY_SECONDS)
                continue
            for body in bodies:
                attempt = read_attempt(body)
                self._cluster.checker.record_received(attempt)
                nursery.start_soon(self._fail, attempt)

    async def _fail(self, attempt: Attempt) -> None:
        rng, world = self._rng, self._cluster.world
        await trio.sleep(attempt.timeout_seconds + rng.uniform(-SLOW_SECONDS, LATE_SECONDS_MAX))
        world.count("failures at the last moment")
        result = Result(*attempt.key, error="at the last moment", worker="last")
        while True:
            try:
                await self._cluster.call(rng, partial(_push, result))
                return
            except (NoAnswer, OrchyError):
                await trio.sleep(RETRY_SECONDS)


async def _push(result: Result, life: Life) -> object:
    return await life.orchestrator.push(result)
