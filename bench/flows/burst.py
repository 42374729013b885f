"""*burst*: many of *three* at once, until all are COMPLETED."""

from __future__ import annotations

from collections.abc import Iterator

from bench.harness.bursts import Burst, burst, values
from bench.harness.figures import Measured, at_least, at_most, figure
from bench.harness.options import Options
from bench.harness.processes import SLOTS, Server, run_plain_worker, run_worker
from bench.harness.work import STEP, chain

SMALL = 1_000
#: What the original Orchy (in Go) does with a burst of 10,000 on such a machine.
ORIGINAL_FLOWS_A_SECOND = 1_110
GOAL_FLOWS_A_SECOND = 2_300
WARM_FLOWS = 500
SLOT_COUNTS = (64, 128, 256, 512, 1_024)


def run(server: Server, options: Options) -> Iterator[Measured]:
    """With the worker library at its best settings, and starts in batches."""
    server.call("POST", "/workflow", chain("three", 3))
    with run_worker(server, STEP) as worker:
        burst([server], [worker], "three", WARM_FLOWS)
        for count in (SMALL, options.count(10_000, 2_000)):
            bursts = [burst([server], [worker], "three", count) for _ in range(options.runs)]
            name, rates = f"burst {count:,}, batch starts", values(bursts, lambda one: one.rate)
            if count == SMALL:
                yield figure(name, rates, "flows/s")
                continue
            yield at_least(name, rates, "flows/s", GOAL_FLOWS_A_SECOND)
            yield figure(f"{name}: beside the original's", [rate / ORIGINAL_FLOWS_A_SECOND for rate in rates], "times")
            calls = values(bursts, lambda one: one.calls / one.flows)
            yield at_most(f"{name}: Redis calls", calls, "a flow", 5)
            yield from costs(name, bursts)


def run_plain(server: Server, options: Options) -> Iterator[Measured]:
    """With a worker that uses only Poll and Push (one a result), and single starts."""
    server.call("POST", "/workflow", chain("three", 3))
    count = options.count(10_000, 1_000)
    with run_plain_worker(server, STEP) as worker:
        burst([server], [worker], "three", WARM_FLOWS, single_starts=True)
        bursts = [burst([server], [worker], "three", count, single_starts=True) for _ in range(options.runs)]
    name = f"burst {count:,}, single starts, Poll and Push"
    yield at_least(name, values(bursts, lambda one: one.rate), "flows/s", ORIGINAL_FLOWS_A_SECOND)
    yield from costs(name, bursts)


def run_slots(server: Server, options: Options) -> Iterator[Measured]:
    """Throughput by the number of attempts that a worker holds; `processes.SLOTS` was chosen by it."""
    server.call("POST", "/workflow", chain("three", 3))
    rates: dict[int, list[float]] = {slots: [] for slots in SLOT_COUNTS}
    for _ in range(options.runs):
        for slots in SLOT_COUNTS:
            with run_worker(server, STEP, slots=slots) as worker:
                burst([server], [worker], "three", WARM_FLOWS)
                rates[slots].append(burst([server], [worker], "three", options.count(5_000, 2_000)).rate)
    for slots in SLOT_COUNTS:
        yield figure(f"burst, a worker of {slots:,} slots", rates[slots], "flows/s")
    yield figure("slots that the other benchmarks use", SLOTS)


def costs(name: str, bursts: list[Burst]) -> Iterator[Measured]:
    """What a flow costs each of the processes."""
    yield figure(f"{name}: starts alone", values(bursts, lambda one: one.flows / one.starts_seconds), "flows/s")
    yield figure(f"{name}: CPU of the nodes", values(bursts, lambda one: one.node_us), "us a flow")
    yield figure(f"{name}: CPU of the workers", values(bursts, lambda one: one.worker_us), "us a flow")
    yield figure(f"{name}: CPU of Redis", values(bursts, lambda one: one.redis_us), "us a flow")
    yield figure(f"{name}: CPU of the load", values(bursts, lambda one: one.load_us), "us a flow")
    yield figure(f"{name}: cores in use", values(bursts, lambda one: one.cores))
    scripts = values(bursts, lambda one: one.redis.script_us / one.flows)
    yield figure(f"{name}: time in Redis' scripts", scripts, "us a flow")
    yield figure(f"{name}: bytes into Redis", values(bursts, lambda one: one.redis.in_bytes / one.flows), "a flow")
    yield figure(f"{name}: bytes out of Redis", values(bursts, lambda one: one.redis.out_bytes / one.flows), "a flow")
