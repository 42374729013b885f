"""Stores that lose their newest data: a lagging replica takes over, or a server restarts with old files.

Of what was written in the last LOST_SECONDS nothing is left, while the nodes remember it. `Probes` are flows of which
one node remembers another past than the store has; that node must not go on from there.
"""

from __future__ import annotations

import json
import shutil
import time

import trio

from tests.faults import shapes
from tests.faults.processes import RedisServer
from tests.faults.world import World

#: The time whose writes are lost.
LOST_SECONDS = 1.0
#: The server writes its append-only file, and sends to its replicas, at each turn of its loop: writes that were
#: answered this long ago have arrived there.
ARRIVAL_SECONDS = 0.3
PROBES = 10


class Probes:
    """Flows with two waits, which are ended by two nodes, one after the other."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._flows = [f"probe-{number}" for number in range(PROBES)]

    async def start(self) -> None:
        """Start them on the first node, and wait until that has arrived everywhere."""
        with (self._world.folder / "client.jsonl").open("a") as log:
            for flow in self._flows:
                about = {"flow": flow, "shape": shapes.PROBE}
                log.write(json.dumps({"at": time.time(), "what": "start", **about}) + "\n")
                await self._call(0, "/flow/execute", {"name": shapes.PROBE, "flowId": flow, "input": {}})
                log.write(json.dumps({"at": time.time(), "what": "accepted", **about}) + "\n")
        await trio.sleep(ARRIVAL_SECONDS)

    async def move(self) -> None:
        """End one wait on the first node; the store will lose that."""
        await self._send(0, "first")

    async def move_again(self) -> None:
        """End the other wait on the second node, and send an event to the first node, which has an outdated copy.

        Finally the lost event is sent again, which ends the flows that are as the store has them.
        """
        await self._send(1, "second")
        await self._send(0, "second")
        await self._send(2, "first")

    async def _send(self, node: int, event: str) -> None:
        for flow in self._flows:
            await self._call(node, "/flow/event", {"name": shapes.PROBE, "flowId": flow, "event": event, "data": node})

    async def _call(self, node: int, path: str, body: object) -> None:
        """Make a call to a node; 409, as the flow is over, is fine."""
        port = self._world.nodes[node % len(self._world.nodes)].http_port
        status, answer = await self._world.rest.ask("POST", path, body, port=port)
        if status not in (200, 409):
            raise RuntimeError(f"{path}: {status} {answer}")


async def lag_and_take_over(world: World, replica: RedisServer) -> None:
    """Cut the replica off for LOST_SECONDS; then the master is lost, and the nodes are pointed to the replica.

    Its promotion makes the cut permanent: what waits for it in a socket's buffer must not reach it after all.
    """
    master = world.redis
    assert isinstance(master, RedisServer)
    probes = Probes(world)
    await probes.start()
    world.loses_from = time.time() - ARRIVAL_SECONDS
    await world.blocking(_promote, replica)
    await probes.move()
    await trio.sleep(LOST_SECONDS)
    world.begin()
    master.kill()
    world.others.remove(replica)
    world.others.append(master)
    world.redis = replica
    world.proxy_set()
    await probes.move_again()
    world.end()


def _promote(replica: RedisServer) -> None:
    with replica.client() as client:
        client.replicaof("NO", "ONE")


async def put_back(world: World) -> None:
    """Kill the server, and start it at the same address with its files of LOST_SECONDS ago."""
    server = world.redis
    assert isinstance(server, RedisServer)
    data, copy = server.folder / server.name, server.folder / "a-second-ago"
    probes = Probes(world)
    await probes.start()
    world.loses_from = time.time() - ARRIVAL_SECONDS
    shutil.copytree(data, copy)
    await probes.move()
    await trio.sleep(LOST_SECONDS)
    world.begin()
    server.kill()
    shutil.rmtree(data)
    copy.rename(data)
    await world.blocking(server.start)
    await probes.move_again()
    world.end()
