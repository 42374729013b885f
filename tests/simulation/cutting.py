"""A worker that cuts its streams while messages to it are in flight."""

from __future__ import annotations

import json
import random
from functools import partial
from itertools import count

import trio

from orchy.engine.catalog import Catalog
from orchy.engine.orchestrator import Result
from orchy.errors import OrchyError
from orchy.flow.definition import ActionDefinition, RetryPolicy
from orchy.rpc.generated import action_service_pb2 as pb
from tests.simulation.books import require
from tests.simulation.callers import RETRY_SECONDS, Client, Cluster
from tests.simulation.decoding import Attempt, read_attempts
from tests.simulation.invariants import READING_SECONDS
from tests.simulation.node import Life, NoAnswer
from tests.simulation.pipe import Pipe
from tests.simulation.plan import Plan

#: An action that no other worker takes. An attempt that got lost would be noticed only by its timeout.
HAUL = ActionDefinition("haul", 9, 0, RetryPolicy.FIXED, int(READING_SECONDS) + 2)
#: One action, and after it several at the same time.
HAULS = {
    "name": "hauls",
    "rootAction": 1,
    "onSuccess": "NOOP",
    "onFailure": "NOOP",
    "actions": [
        {
            "id": id,
            "type": "user",
            "name": HAUL.name,
            "parameters": {"of": "{$.input.s1}"},
            "next": {"default": [2, 3, 4]} if id == 1 else {},
        }
        for id in range(1, 5)
    ],
}
FLOWS = 3
#: For all flows, even if most streams are cut before anything arrives.
END_SECONDS = 120.0


class Cutting:
    """Flows whose worker reads its stream for a moment or not at all, cuts it, and opens another one.

    It returns a result for each attempt that it read. Nothing else breaks here, so what it did not read must be given
    back at once. This scene comes last, with flows and random numbers of its own, so that it changes nothing of the
    seed before it.
    """

    def __init__(self, cluster: Cluster, number: int) -> None:
        """`number` is that of the first flow."""
        self._cluster = cluster
        self._clients = [Client(cluster, number + flow, str(HAULS["name"])) for flow in range(FLOWS)]
        self._rng: random.Random = cluster.world.stream("cutting")
        self._results = count(1)
        self._lives = count(1)

    async def run(self, catalog: Catalog) -> None:
        """Start the flows and wait for their ends."""
        checker = self._cluster.checker
        checker.definitions[HAUL.name] = HAUL
        checker.plans[str(HAULS["name"])] = Plan(HAULS)
        await catalog.save_action(HAUL)
        await catalog.save_workflow(json.dumps(HAULS).encode())
        await trio.sleep(2)  # until each node has the definition
        with trio.move_on_after(END_SECONDS):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._work, nursery)
                for client in self._clients:
                    await client.start()
                while not all(checker.books[client.flow_id].over for client in self._clients):
                    await trio.sleep(0.5)
                nursery.cancel_scope.cancel()
        require(not checker.open_flows(), "every accepted flow ends", "one whose worker cuts its streams off")

    async def _work(self, nursery: trio.Nursery) -> None:
        """Open one stream after the other, each to a random node."""
        rng = self._rng
        while True:
            pipe = rng.choice(self._cluster.nodes).open_stream()
            name = f"s-cutting.{next(self._lives)}"
            pipe.send(pb.WorkerMessage(number=1, workerId=name))
            credit = pb.Credit(actionName=HAUL.name, count=rng.choice((1, 3)))
            pipe.send(pb.WorkerMessage(number=2, workerId=name, credits=[credit]))
            try:
                await trio.sleep(rng.uniform(0, 0.5))
                if rng.random() < 0.5:
                    with trio.move_on_after(rng.uniform(0.1, 1)):
                        await self._read(pipe, name, nursery)
            finally:
                self._cluster.world.count("streams that were cut off")
                pipe.cut()
            await trio.sleep(rng.choice((0.0, 0.1)))

    async def _read(self, pipe: Pipe, name: str, nursery: trio.Nursery) -> None:
        async for reply in pipe.replies():
            for attempt in read_attempts(reply.SerializeToString()):
                self._cluster.checker.record_received(attempt, name)
                nursery.start_soon(self._push, attempt, name)
            await trio.sleep(self._rng.choice((0.0, 0.2)))

    async def _push(self, attempt: Attempt, name: str) -> None:
        output = {"token": f"{name}/{next(self._results)}"}
        self._cluster.checker.pushed.setdefault(attempt.key, []).append(output)
        while True:
            try:
                await self._cluster.call(self._rng, partial(_push, Result(*attempt.key, output, worker=name)))
                return
            except (NoAnswer, OrchyError):
                await trio.sleep(RETRY_SECONDS)


async def _push(result: Result, life: Life) -> object:
    return await life.orchestrator.push(result)
