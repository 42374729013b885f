"""*million*: the cost of a step with 1,000,000 finished flows in the store, in turns with an empty store."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import attrs

from bench.harness.bursts import burst
from bench.harness.figures import Measured, at_most, figure
from bench.harness.options import Options
from bench.harness.places import ROOT
from bench.harness.processes import Server, WorkerProcess, run_server, run_worker
from bench.harness.progress import Progress
from bench.harness.redis_servers import RedisServers, run_redis
from bench.harness.work import STEP, chain, run_to_end

ONE_BY_ONE, BURST = 150, 3_000


@attrs.define
class _Side:
    """A store with its node and worker, and their measurements, one a round."""

    server: Server
    worker: WorkerProcess
    p50s: list[float] = attrs.field(factory=list)
    node_us: list[float] = attrs.field(factory=list)
    redis_us: list[float] = attrs.field(factory=list)
    script_us: list[float] = attrs.field(factory=list)
    rates: list[float] = attrs.field(factory=list)

    def measure(self, options: Options) -> None:
        """Run one round."""
        taken = [run_to_end(self.server, "three")[0] for _ in range(options.count(ONE_BY_ONE, 50))]
        self.p50s.append(statistics.median(taken))
        one = burst([self.server], [self.worker], "three", options.count(BURST, 1_000))
        self.node_us.append(one.node_us)
        self.redis_us.append(one.redis_us)
        self.script_us.append(one.redis.script_us / one.flows)
        self.rates.append(one.rate)


def run(options: Options) -> Iterator[Measured]:
    """Both sides keep the flows that are measured, so the empty store stays empty only until the first round."""
    flows = min(options.flows, 20_000) if options.quick else options.flows
    with ExitStack() as stack:
        empty, full = (stack.enter_context(run_redis(options.appendfsync)) for _ in range(2))
        began = time.perf_counter()
        _fill(full, flows)
        seconds = time.perf_counter() - began
        yield figure(f"{flows:,} finished flows put into the store in", seconds, "s")
        yield figure(f"Redis memory with {flows:,} flows", full.used_bytes() / 1e6, "MB")
        full.wait_for_rewrite()
        none, many = (_open_side(stack, redis) for redis in (empty, full))
        yield figure("memory of a node beside them", many.server.memory_mb(), "MB")
        for number in range(options.runs):
            for side in (many, none) if number % 2 else (none, many):  # disk writes of one side delay the next
                side.measure(options)
    name = f"with {flows:,} flows in the store"
    yield figure("three with none, p50", none.p50s, "ms")
    yield figure(f"three {name}, p50", many.p50s, "ms")
    yield at_most(f"three, p50, {name} / with none", _ratios(many.p50s, none.p50s), "", 1.1)
    yield figure("burst with none: CPU of the node", none.node_us, "us a flow")
    yield figure(f"burst {name}: CPU of the node", many.node_us, "us a flow")
    yield figure(f"CPU of the node, {name} / with none", _ratios(many.node_us, none.node_us))
    yield figure("burst with none: time in Redis' scripts", none.script_us, "us a flow")
    yield figure(f"burst {name}: time in Redis' scripts", many.script_us, "us a flow")
    yield figure(f"time in Redis' scripts, {name} / with none", _ratios(many.script_us, none.script_us))
    all_us = [[sum(both) for both in zip(side.node_us, side.redis_us, strict=True)] for side in (many, none)]
    yield at_most(f"CPU of the node and Redis, {name} / with none", _ratios(*all_us), "", 1.1)
    yield figure(f"burst, {name} / with none: flows a second", _ratios(many.rates, none.rates))


def _fill(redis: RedisServers, flows: int) -> None:
    """Load the store from a separate process, with the commits that a node would make."""
    if not flows:
        return
    command = [sys.executable, "-m", "bench.store.loader", str(redis.ports[0]), str(flows)]
    progress = Progress("flows put into the store", flows)
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            progress.at(int(line))
    if process.returncode:
        raise SystemExit("the store could not be filled")


def _open_side(stack: ExitStack, redis: RedisServers) -> _Side:
    server = stack.enter_context(run_server(redis))
    server.call("POST", "/workflow", chain("three", 3))
    worker = stack.enter_context(run_worker(server, STEP))
    burst([server], [worker], "three", 500)
    return _Side(server, worker)


def _ratios(many: Sequence[float], none: Sequence[float]) -> list[float]:
    """The ratio of each round."""
    return [one / other for one, other in zip(many, none, strict=True)]
