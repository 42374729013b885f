"""The command line: many seeds on all cores, one seed, or the mutations, which the simulation must find."""

from __future__ import annotations

import argparse
import faulthandler
import multiprocessing
import os
import sys
import time
from collections import Counter

from tests.simulation.mutations import MUTATIONS, hunt
from tests.simulation.profile import FAULTS
from tests.simulation.run import Outcome, run_seed

#: Stop here: a mistake that breaks everything is evident from a few seeds.
BROKEN_MAX = 20
#: Real time. A seed that takes longer hangs: its process prints all stacks and exits.
SEED_SECONDS_MAX = 120.0


def main() -> int:
    """Exit code 0 if no rule was broken (with --mutations: if each mutation was found), else 1."""
    parser = argparse.ArgumentParser("python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, help="how many; 500, with --mutations 1000")
    parser.add_argument("--start", type=int, default=0, help="the first")
    parser.add_argument("--seed", type=int, help="just this one, with its whole transcript")
    parser.add_argument("--lines", type=int, default=40, help="how many lines of a broken seed's transcript to show")
    parser.add_argument("--faults", help=f"only these kinds, of: {', '.join(FAULTS)}")
    parser.add_argument(
        "--removals", action="store_true", help="flows are removed as they end (see docs/reliability.md)"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--mutations", action="store_true", help="run each mutation of the engine until a seed finds it"
    )
    args = parser.parse_args()
    if args.mutations:
        return _mutations(args.start, args.seeds or 1_000, args.jobs)
    if args.seed is not None:
        return _one(args.seed, args.faults, args.removals)
    return _many(args.start, args.seeds or 500, args.jobs, args.lines, args.removals)


def _one(seed: int, faults: str | None, removals: bool) -> int:
    kinds = None if faults is None else [fault.strip() for fault in faults.split(",") if fault.strip()]
    outcome = run_seed(seed, keep=sys.maxsize, faults=kinds, keep_always=True, removals=removals)
    print("\n".join(outcome.transcript))
    print(f"seed {seed}: {outcome.broken or 'all rules held'}")
    print(f"transcript {outcome.digest}")
    return 1 if outcome.broken else 0


def _run(task: tuple[int, int, bool]) -> Outcome:
    faulthandler.dump_traceback_later(SEED_SECONDS_MAX, exit=True)
    try:
        return run_seed(task[0], keep=task[1], removals=task[2])
    finally:
        faulthandler.cancel_dump_traceback_later()


def _many(start: int, seeds: int, jobs: int, lines: int, removals: bool) -> int:
    began = time.monotonic()
    counts: Counter[str] = Counter()
    virtual_seconds, broken, done = 0.0, 0, 0
    with multiprocessing.Pool(jobs) as pool:
        tasks = [(seed, lines, removals) for seed in range(start, start + seeds)]
        for done, outcome in enumerate(pool.imap_unordered(_run, tasks), start=1):
            counts += outcome.counts
            virtual_seconds += outcome.virtual_seconds
            if outcome.broken:
                broken += 1
                again = f"--seed {outcome.seed}{' --removals' if removals else ''}"
                print(f"BROKEN  python -m tests.simulation {again}  # {outcome.broken}")
                print("\n".join(f"    {line}" for line in outcome.transcript), flush=True)
            if done % 100 == 0 or done == seeds or broken == BROKEN_MAX:
                print(f"{done} seeds, {broken} broken, {time.monotonic() - began:.0f} s", flush=True)
            if broken == BROKEN_MAX:
                break
    for what, number in sorted(counts.items()):
        print(f"{number:10,} {what}")
    print(f"{virtual_seconds:10,.0f} virtual seconds")
    print(f"{done / (time.monotonic() - began):10.1f} seeds a second")
    return 1 if broken else 0


def _mutations(start: int, seeds: int, jobs: int) -> int:
    survived = 0
    with multiprocessing.Pool(jobs, maxtasksperchild=1) as pool:
        tasks = [(name, start, seeds) for name in MUTATIONS]
        for name, seed, broken in pool.imap(hunt, tasks):
            if seed is None:
                survived += 1
                print(f"SURVIVED  {name}: {broken or f'{seeds} seeds found nothing'}", flush=True)
            else:
                print(f"{name}: seed {seed}: {broken}", flush=True)
    print(f"{len(MUTATIONS) - survived} of {len(MUTATIONS)} mutations were found")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
