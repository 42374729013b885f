"""*celery*: *three* and a burst in turns with Celery's chain of three, on one Redis.

The comparison is with the better of two settings, worker processes (prefork) or a single process (solo), both of which
keep the result of each task, as Orchy does. A setting that keeps only the last result of a chain is shown beside them.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import attrs

from bench.harness.bursts import burst
from bench.harness.figures import Measured, at_least, at_most, figure, percentile
from bench.harness.options import Options
from bench.harness.places import ROOT
from bench.harness.processes import Server, run_worker
from bench.harness.progress import Progress
from bench.harness.waiting import STOP_SECONDS
from bench.harness.work import STEP, chain, run_to_end

#: The Python of an environment that has Celery; `nox -s bench` makes one.
PYTHON = "CELERY_PYTHON"
#: Arguments of `celery_process` for each setting. Each setting has a Redis database of its own.
SETTINGS = {
    "prefork, 2": ("all", "prefork", "2"),
    "solo": ("all", "solo"),
    "prefork, 2, last result only": ("last", "prefork", "2"),
}
LIGHTER = "prefork, 2, last result only"


@attrs.define
class Celery:
    """Celery's worker with its client, and the measurements, one a round."""

    process: subprocess.Popen[str]
    p50s: list[float] = attrs.field(factory=list)
    p99s: list[float] = attrs.field(factory=list)
    rates: list[float] = attrs.field(factory=list)
    lost: int = 0

    def measure(self, flows: int, count: int) -> None:
        """Run one round."""
        answer = self._ask(f"{flows} {count}")
        self.p50s.append(answer["p50_ms"])
        self.p99s.append(answer["p99_ms"])
        self.rates.append(answer["flows_a_second"])
        self.lost += int(answer["lost"])

    def _ask(self, line: str) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit("Celery's process has ended")
        return json.loads(answer)


def run(server: Server, options: Options) -> Iterator[Measured]:
    """Rounds of each, and the ratios within each round."""
    python = os.environ.get(PYTHON)
    if python is None:
        print(f"  left out: {PYTHON} names no Python with Celery")
        return
    server.call("POST", "/workflow", chain("three", 3))
    flows, count = options.count(200, 50), options.count(1_000, 200)
    ours, rates = [], []
    with ExitStack() as stack:
        peers = {name: stack.enter_context(_run(python, server, name)) for name in SETTINGS}
        worker = stack.enter_context(run_worker(server, STEP))
        for peer in peers.values():
            peer.measure(20, 100)
            peer.p50s, peer.p99s, peer.rates = [], [], []
        burst([server], [worker], "three", 500)
        progress = Progress("rounds of Celery's and our own", options.runs)
        for done in range(options.runs):
            progress.at(done)
            for peer in peers.values():
                peer.measure(flows, count)
            ours.append([run_to_end(server, "three")[0] for _ in range(flows)])
            rates.append(burst([server], [worker], "three", 5 * count).rate)
        progress.at(options.runs)
    for name, peer in peers.items():
        yield figure(f"Celery ({name}), chain of three, p50", peer.p50s, "ms")
        yield figure(f"Celery ({name}), chain of three, p99", peer.p99s, "ms")
        yield figure(f"Celery ({name}), burst {count:,}", peer.rates, "flows/s")
        if peer.lost:
            yield figure(f"Celery ({name}), rounds begun again as a result never came", peer.lost)
    p50s = [statistics.median(one) for one in ours]
    p99s = [percentile(one, 99) for one in ours]
    yield figure("three beside them, p50", p50s, "ms")
    yield figure("three beside them, p99", p99s, "ms")
    yield figure(f"burst {5 * count:,} beside them", rates, "flows/s")
    lighter = peers.pop(LIGHTER)
    quickest = min(peers.values(), key=lambda peer: statistics.median(peer.p50s))
    busiest = max(peers.values(), key=lambda peer: statistics.median(peer.rates))
    yield at_most("three / Celery's better, p50", _ratios(p50s, quickest.p50s), "times", 1)
    yield figure("three / Celery's better, p99", _ratios(p99s, quickest.p99s), "times")
    yield at_least("burst / Celery's better", _ratios(rates, busiest.rates), "times", 8)
    yield figure(f"three / Celery's ({LIGHTER}), p50", _ratios(p50s, lighter.p50s), "times")
    yield figure(f"burst / Celery's ({LIGHTER})", _ratios(rates, lighter.rates), "times")


@contextmanager
def _run(python: str, server: Server, setting: str) -> Iterator[Celery]:
    command = [
        python,
        "-m",
        "bench.compare.celery_process",
        str(server.redis.ports[0]),
        str(list(SETTINGS).index(setting) + 1),
        *SETTINGS[setting],
    ]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, cwd=ROOT, **pipes)
    try:
        yield Celery(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()  # the process then stops its worker
        try:
            process.wait(2 * STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _ratios(ours: list[float], theirs: list[float]) -> list[float]:
    """The ratio of each round."""
    return [mine / other for mine, other in zip(ours, theirs, strict=True)]
