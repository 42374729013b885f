"""The gossip's figures beside their goals: `python -m bench.gossip [--quick] [--plots DIR] [NAME ...]`.

All but *real* run the production machine in virtual time, from seeds that start at 0.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from bench.gossip import processes
from bench.gossip import scenarios as scenarios

LOSSES = (0.0, 0.05, 0.10, 0.20)
FALSE_DEATH_MEMBERS = 32
Row = tuple[str, str, str, bool]


class Bench:
    """Runs scenarios on all cores, and keeps the data of the plots."""

    def __init__(self, quick: bool) -> None:
        self.pool = ProcessPoolExecutor()
        self.quick = quick
        self.detection: dict[str, dict[int, tuple[float, float]]] = {}
        self.false_deaths: dict[float, float] = {}

    def detections(self) -> list[Row]:
        """A host loses its power: how soon the first member knows, and then all do."""
        rows: list[Row] = []
        for profile, goal in (("default", 7.5), ("fast", 4.0)):
            for members in (3, 5, 10, 32, 100, 316, 1_024):
                seeds = 10 if members > 300 or self.quick else 60
                runs = list(self.pool.map(partial(scenarios.detection, members=members, profile=profile), range(seeds)))
                first = statistics.mean(run.first_seconds for run in runs)
                spread = max(run.spread_seconds for run in runs)
                self.detection.setdefault(profile, {})[members] = first, spread
                bound = f"<= {goal:g} s" if members <= 10 else "-"
                name = f"host without power noticed, {profile}, n = {members}, mean of {seeds}"
                rows.append((name, f"{first:.2f} s", bound, members > 10 or first <= goal))
                rows.append((f"then known by all, {profile}, n = {members}", f"{spread:.2f} s", "<= 1 s", spread <= 1))
        return rows

    def kills(self) -> list[Row]:
        """A process ends in a quiet cluster, while its host still answers."""
        rows: list[Row] = []
        for members in (2, 3, 5, 10, 32):
            seeds = 30 if self.quick else 60
            run = partial(scenarios.detection, members=members, profile="default", killed=True)
            runs = list(self.pool.map(run, range(seeds)))
            first = sorted(run.first_seconds for run in runs)
            spread = max(run.spread_seconds for run in runs)
            good = statistics.mean(first) <= 2
            shown = f"{statistics.mean(first):.2f} s, longest {first[-1]:.2f} s"
            rows.append((f"killed process noticed, n = {members}, mean of {seeds}", shown, "mean <= 2 s", good))
            rows.append((f"then known by all, n = {members}", f"{spread:.2f} s", "<= 1 s", spread <= 1))
        return rows

    def quick_restarts(self) -> list[Row]:
        """Processes that are back within a second."""
        rows: list[Row] = []
        for loss in (0.0, 0.1):
            run = partial(scenarios.quick_restarts, members=5, count=10 if self.quick else 50, loss=loss)
            runs = list(self.pool.map(run, range(2 if self.quick else 8)))
            count, false = sum(run.restarts for run in runs), sum(run.false_deaths for run in runs)
            name = f"false deaths in {count} restarts within a second, {loss:.0%} loss"
            rows.append((name, f"{false}, {sum(run.deaths for run in runs)} true ones", "0", false == 0))
        return rows

    def messages(self) -> list[Row]:
        """Messages in a quiet cluster."""
        rows: list[Row] = []
        for members in (3, 10, 100, 1_000, 10_000):
            seconds = 45.0 if members >= 1_000 else 600.0
            rate = scenarios.messages_a_second(1, members, seconds)
            good = abs(rate - 2.1) <= 2.1 * 0.05
            rows.append((f"messages a node and second, n = {members}", f"{rate:.3f}", "2.1 +- 5 %", good))
        return rows

    def losses(self) -> list[Row]:
        """False deaths on a network that loses datagrams."""
        goals = {0.0: 0.0, 0.05: 0.0, 0.10: 0.003, 0.20: 0.12}
        rows: list[Row] = []
        for loss in LOSSES:
            runs = list(
                self.pool.map(
                    partial(scenarios.deaths_by_loss, loss=loss, members=FALSE_DEATH_MEMBERS, seconds=3_600),
                    range(2 if self.quick else 12),
                )
            )
            deaths, hours = sum(run.deaths for run in runs), sum(run.node_hours for run in runs)
            self.false_deaths[loss] = deaths / hours
            name = f"false deaths at {loss:.0%} loss, in {hours:.0f} node-hours"
            rows.append((name, str(deaths), f"<= {goals[loss]:g} a node-hour", deaths / hours <= goals[loss]))
        return rows

    def stalls(self) -> list[Row]:
        """False deaths while a tenth of the members is stalled, two seconds at a time."""
        runs = list(
            self.pool.map(partial(scenarios.deaths_by_stalls, members=50, seconds=600), range(2 if self.quick else 16))
        )
        deaths, hours = sum(run.deaths for run in runs), sum(run.node_hours for run in runs)
        return [(f"false deaths by stalls, in {hours:.0f} node-hours", str(deaths), "0", deaths == 0)]

    def starved(self) -> list[Row]:
        """False deaths of healthy members, declared by members whose network is blocked again and again."""
        deaths = {}
        for lifeguard in (True, False):
            run = partial(scenarios.deaths_by_starved, members=64, starved=8, seconds=300, lifeguard=lifeguard)
            deaths[lifeguard] = sum(self.pool.map(run, range(2 if self.quick else 8)))
        shown = f"{deaths[False]} without, {deaths[True]} with"
        good = deaths[False] > 0 and deaths[False] >= 30 * deaths[True]
        return [("false deaths by starved members, Lifeguard against plain SWIM", shown, ">= 30 times fewer", good)]

    def heals(self) -> list[Row]:
        """How soon a cluster is whole again after a split into halves."""
        rows: list[Row] = []
        for members in (10, 32, 100):
            runs = list(
                self.pool.map(
                    partial(scenarios.heal_seconds, members=members, split_seconds=90), range(2 if self.quick else 10)
                )
            )
            rows.append(
                (f"healed after a split, n = {members}, longest", f"{max(runs):.1f} s", "<= 35 s", max(runs) <= 35)
            )
        return rows

    def restarts(self) -> list[Row]:
        """One member restarted again and again under the same name."""
        done = scenarios.restarts(1, 8, 20 if self.quick else 200)
        shown = f"{done.ghosts} ghosts, {done.refused} refused"
        return [(f"{done.restarts} restarts under one name", shown, "0, 0", done.ghosts == done.refused == 0)]

    def speed(self) -> list[Row]:
        """The cost of the simulator itself."""
        speed = scenarios.simulator_speed(1_000 if self.quick else 10_000, 45)
        name = f"simulator, n = {speed.members}, {speed.virtual_seconds:.0f} virtual seconds"
        return [(name, f"{speed.cpu_seconds:.1f} s", "<= 20 s", speed.cpu_seconds <= 20)]

    def real(self) -> list[Row]:
        """Real processes on loopback, beside the simulator."""
        rows: list[Row] = []
        for members, times in ((10, 5 if self.quick else 15), (30, 3 if self.quick else 10)):
            measured = processes.measure(members, "fast", times, 10)
            seconds = statistics.mean(measured.stopped_seconds)
            runs = self.pool.map(partial(scenarios.detection, members=members, profile="fast"), range(60))
            simulated = statistics.mean(run.first_seconds for run in runs)
            off = seconds / simulated - 1
            name = f"stopped process noticed, fast, {members} processes, mean of {times}"
            rows.append((name, f"{seconds:.2f} s, {off:+.0%} of the simulator", "within 15 %", abs(off) <= 0.15))
            seconds = statistics.mean(measured.killed_seconds)
            shown = f"{seconds:.2f} s, longest {max(measured.killed_seconds):.2f} s"
            name = f"killed process noticed, fast, {members} processes, mean of {times}"
            rows.append((name, shown, "mean <= 2 s", seconds <= 2))
            rows.append(
                (f"core of a member, {members} processes, fast", f"{measured.core:.2%}", "< 1 %", measured.core < 0.01)
            )
        return rows

    def plot(self, folder: Path) -> None:
        """Draw detection and spread by cluster size, and false deaths by loss."""
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt

        if self.detection:
            figure, axes = plt.subplots(figsize=(7, 4))
            for profile, by_members in self.detection.items():
                axes.plot(
                    list(by_members), [first for first, _ in by_members.values()], "o-", label=f"first, {profile}"
                )
                spreads = [spread for _, spread in by_members.values()]
                axes.plot(list(by_members), spreads, "s--", label=f"then all, {profile}")
            axes.set(xscale="log", xlabel="members", ylabel="seconds", title="A crash is noticed")
            axes.legend()
            figure.savefig(folder / "gossip-detection.svg")
        if self.false_deaths:
            figure, axes = plt.subplots(figsize=(7, 4))
            axes.plot([100 * loss for loss in self.false_deaths], list(self.false_deaths.values()), "o-")
            axes.set(xlabel="loss, %", ylabel="false deaths a node-hour", title="False deaths, 32 members")
            figure.savefig(folder / "gossip-false-deaths.svg")


def main() -> int:
    """Exit code 1 if a goal was missed."""
    bench_of: dict[str, Callable[[Bench], list[Row]]] = {
        name: getattr(Bench, name)
        for name in (
            "detections",
            "kills",
            "quick_restarts",
            "messages",
            "losses",
            "stalls",
            "starved",
            "heals",
            "restarts",
            "speed",
            "real",
        )
    }
    parser = argparse.ArgumentParser(prog="python -m bench.gossip", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer seeds: a look, not a figure to publish")
    parser.add_argument("--plots", type=Path, help="a folder to draw the plots into")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"just these: {', '.join(bench_of)}")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - bench_of.keys()
    if unknown:
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    bench = Bench(arguments.quick)
    missed = 0
    for name, run in bench_of.items():
        if arguments.names and name not in arguments.names:
            continue
        began = time.monotonic()
        for what, figure, goal, good in run(bench):
            missed += not good
            print(f"{what:68} {figure:>32}   goal {goal:22} {'' if good else 'MISSED'}", flush=True)
        print(f"  ({name}: {time.monotonic() - began:.0f} s)", flush=True)
    if arguments.plots:
        bench.plot(arguments.plots)
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
