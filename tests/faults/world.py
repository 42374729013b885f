"""A cluster of real processes, and the tools to break it."""

from __future__ import annotations

import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import trio

from orchy.commands.demo.processes import free_port
from tests.faults import processes, shapes
from tests.faults.clusters import RedisCluster
from tests.faults.http import Rest
from tests.faults.processes import Node, Process, RedisServer, WorkerProcess

NAMESPACE = "faults"
PARTITIONS = 64
#: A cluster that takes longer than this to recover from a fault is a finding.
WHOLE_SECONDS = 60.0


@attrs.frozen
class Settings:
    """The settings of a run. `seconds` is how long a fault lasts, if it has no duration of its own."""

    nodes: int = 3
    worker_processes: int = 4
    workers_per_process: int = 5
    rate: float = 40.0
    seconds: float = 8.0
    seed: int = 0
    fsync: str = "everysec"


@attrs.define(eq=False)
class World:
    """The processes of one run, and when its fault began and ended, and when recovery could begin."""

    settings: Settings
    folder: Path
    redis: RedisServer | RedisCluster
    nodes: list[Node]
    workers: list[WorkerProcess]
    rest: Rest
    rng: random.Random
    control_file: Path
    proxy: Process | None = None
    proxy_file: Path | None = None
    others: list[Process] = attrs.field(factory=list)
    began: float = 0.0
    ended: float = 0.0
    heal_from: float = 0.0
    loses_from: float | None = None

    def begin(self) -> None:
        """The fault begins."""
        self.began = self.heal_from = self.ended = time.time()

    def end(self) -> None:
        """The fault is over: recovery can begin."""
        self.ended = self.heal_from = time.time()

    def end_made_up_for(self) -> None:
        """The fault is over, but the others could make up for it from its beginning."""
        self.ended = time.time()

    async def last(self) -> None:
        """Wait as long as a fault without a duration of its own lasts."""
        await trio.sleep(self.settings.seconds)

    def victim(self) -> Node:
        """A random node."""
        return self.rng.choice(self.nodes)

    def proxy_set(self, **settings: Any) -> None:
        """Tell the proxy before Redis what to do; see `proxy`."""
        assert self.proxy_file is not None
        new = self.proxy_file.with_suffix(".new")
        assert isinstance(self.redis, RedisServer)
        new.write_text(json.dumps({"target": self.redis.port, **settings}))
        new.replace(self.proxy_file)

    def proxy_ports(self) -> list[int]:
        """The port of each node, in their order."""
        return [int(node.flags[node.flags.index("--redis-addr") + 1].rpartition(":")[2]) for node in self.nodes]

    async def blocking(self, call: Any, *args: Any, **kwargs: Any) -> Any:
        """Run a blocking function in a thread."""
        return await trio.to_thread.run_sync(partial(call, *args, **kwargs))

    async def whole(self) -> None:
        """Returns when each running node sees all of them alive and each partition owned."""
        names = {node.name for node in self.nodes if node.alive}
        give_up_at = trio.current_time() + WHOLE_SECONDS
        problem = "no node answers"
        while trio.current_time() < give_up_at:
            answers = await self.rest.get_all("/cluster")
            seen = [
                {member["name"] for member in answer["members"] if member["state"] == "alive"} for answer in answers
            ]
            owners = [{partition["owner"] for partition in answer["partitions"]} for answer in answers]
            if len(answers) == len(names) and all(one == names for one in [*seen, *owners]):
                return
            problem = f"they see {seen}, owners {owners}"
            await trio.sleep(0.2)
        raise RuntimeError(f"the cluster was not whole in {WHOLE_SECONDS:.0f} s: {problem}")


@contextmanager
def make_world(settings: Settings, *, proxied: bool, clustered: bool, keep: list[bool]) -> Iterator[World]:
    """Start Redis and the nodes; finally end everything, and remove the folder unless `keep` has a true item."""
    folder = Path(tempfile.mkdtemp(prefix="orchy-faults-"))
    redis = RedisCluster(folder, settings.fsync) if clustered else RedisServer("redis", folder, fsync=settings.fsync)
    control_file = folder / "workers.json"
    processes.control_workers(control_file)
    ports = [free_port() for _ in range(settings.nodes)] if proxied else []
    nodes: list[Node] = []
    for number in range(settings.nodes):
        address = f"127.0.0.1:{ports[number]}" if proxied else redis.address
        flags = ["--redis-addr", address, "--namespace", NAMESPACE, "--partitions", str(PARTITIONS)]
        flags += ["--gossip-profile", "fast", "--log-level", "info"]
        if nodes:
            flags += ["--cluster-address", f"127.0.0.1:{nodes[0].gossip_port}"]
        nodes.append(Node(f"node-{number}", folder, flags=flags))
    workers = [
        WorkerProcess(
            f"workers-{number}",
            folder,
            servers=[f"127.0.0.1:{node.grpc_port}" for node in nodes],
            first=number * settings.workers_per_process,
            count=settings.workers_per_process,
            control_file=control_file,
        )
        for number in range(settings.worker_processes)
    ]
    rest = Rest([node.http_port for node in nodes])
    world = World(settings, folder, redis, nodes, workers, rest, random.Random(settings.seed), control_file)
    try:
        redis.start()
        if proxied:
            world.proxy_file = folder / "proxy.json"
            world.proxy_set()
            world.proxy = Process("proxy", folder)
            command = [sys.executable, "-m", "tests.faults.proxy", str(world.proxy_file), *map(str, ports)]
            world.proxy.launch(command)
        yield world
    except BaseException:
        keep.append(True)
        raise
    finally:
        for process in [*workers, *nodes, *([world.proxy] if world.proxy else []), *world.others, redis]:
            process.end()
        if any(keep):
            print(f"logs are in {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)


async def start_cluster(world: World) -> None:
    """Start the nodes and workers and save the definitions; returns when all know each other."""
    for node in world.nodes:
        node.start()
    await world.whole()
    for workflow in shapes.WORKFLOWS.values():
        status, answer = await world.rest.ask("POST", "/workflow", workflow)
        if status != 200 or not answer["created"]:
            raise RuntimeError(f"a workflow was not taken: {answer}")
    for worker in world.workers:
        worker.start()
    while True:
        _, answer = await world.rest.ask("GET", "/action")
        if len(answer["actions"]) == len(shapes.ACTIONS):
            return
        await trio.sleep(0.1)
