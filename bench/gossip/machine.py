"""*gossip*: a short excerpt in virtual time; `nox -s gossip` runs everything, real processes too."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

from bench.gossip import scenarios as scenarios
from bench.harness.figures import Measured, at_most, figure
from bench.harness.options import Options
from orchy.swim.simulator import Simulator

MEMBERS = (10, 100, 1_000)
QUIET_SECONDS = 30.0
#: The goal of `nox -s gossip`.
NOTICED_SECONDS = 7.5


def run(options: Options) -> Iterator[Measured]:
    """The CPU cost of a message, and how soon a crash is noticed."""
    for members in MEMBERS[: options.count(3, 2)]:
        costs = [_message_us(members) for _ in range(options.runs if members < 1_000 else 1)]
        name = f"gossip, {members:,} members: a message sent, carried and handled"
        yield figure(name, [us for us, _ in costs], "us")
        yield figure(f"gossip, {members:,} members: handled on one core", [rate for _, rate in costs], "a second")
    for profile in ("default", "fast"):
        runs = [scenarios.detection(seed, 10, profile) for seed in range(options.count(20, 5))]
        name = f"gossip, 10 members, {profile}: a crash is noticed, mean of {len(runs)}"
        mean = statistics.fmean(one.first_seconds for one in runs)
        yield at_most(name, mean, "s", NOTICED_SECONDS) if profile == "default" else figure(name, mean, "s")


def _message_us(members: int) -> tuple[float, float]:
    """CPU time (us) of a message in a quiet cluster, the simulated network's share included, and messages a second."""
    simulator = Simulator(1)
    simulator.form(members)
    before, began = _messages(simulator), time.process_time()
    simulator.run(QUIET_SECONDS)
    seconds, messages = time.process_time() - began, _messages(simulator) - before
    return seconds / messages * 1e6, messages / seconds


def _messages(simulator: Simulator) -> int:
    # A stream in a quiet cluster carries one request and its response.
    return simulator.counts["datagrams"] + 2 * simulator.counts["streams"]
