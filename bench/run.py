"""The standard work on real processes: `python bench/run.py [NAME ...]`, or `nox -s bench -- NAME ...`.

Prints each figure beside its goal with the ratio of the two, keeps it in bench/results.json, and draws the plots of
docs/performance.md at the end. Machines are noisy: a figure is the median of some runs, the lowest and highest stand
beside it, and nothing here fails for being slow. `--profile` looks into the server meanwhile, which slows it.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext

import against
import burst
import chain
import commit
import gossip_machine
import idle
import million
import notify
import partitions
import peer
import plots
import poll
import profiles
import redis_cluster
import redis_limit
import results
import ring
import scale
import starts
import step
import three
import timers
from figures import HEADING, Figure, Measured
from options import Options
from others import Usage
from processes import Server, run_server
from redises import run_redis

#: On a server of its own with an empty Redis.
ON_A_SERVER: dict[str, Callable[[Server, Options], Iterator[Measured]]] = {
    "three": three.run,
    "burst": burst.run,
    "celery": peer.run,
    "burst-plain": burst.run_plain,
    "chain": chain.run,
    "fan": chain.run_fan,
    "notify": notify.run,
    "script": three.run_script,
    "timers": timers.run,
    "idle": idle.run,
    "memory": idle.run_memory,
    "starts": starts.run,
    "poll": poll.run,
    "slots": burst.run_slots,
}
#: On what they start themselves, if anything.
ALONE: dict[str, Callable[[Options], Iterator[Measured]]] = {
    "retention": idle.run_retention,
    "million": million.run,
    "partitions": partitions.run,
    "redis-cluster": redis_cluster.run,
    "redis-limit": redis_limit.run,
    "commit": commit.run,
    "step": step.run,
    "gossip": gossip_machine.run,
    "ring": ring.run,
}
#: Only when asked for: it is what a constant was chosen by.
NOT_BY_DEFAULT = {"slots"}
#: Worth a word: what others use of the machine is missing in all figures.
OTHERS_CORES = 0.1
NAMES = [*ON_A_SERVER, *ALONE]


def main() -> int:
    """Run some benchmarks, or all."""
    shown = ", ".join(name + (" (only when named)" if name in NOT_BY_DEFAULT else "") for name in NAMES)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"just these: {shown}")
    parser.add_argument("--appendfsync", default="everysec", choices=("always", "everysec", "no"))
    flows = Options().flows
    parser.add_argument("--flows", type=int, default=flows, metavar="N", help=f"flows of *million* ({flows:,})")
    parser.add_argument("--quick", action="store_true", help="small counts: a look, not figures to publish")
    parser.add_argument(
        "--against", metavar="COMMIT", help="the same there and here in pairs, and the ratios of figures"
    )
    parser.add_argument("--pairs", type=int, default=against.PAIRS, metavar="N", help=f"of --against ({against.PAIRS})")
    parser.add_argument("--profile", action="store_true", help="a flame graph of each server into bench/profiles/")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.names if name not in NAMES]:
        parser.error(f"there is no benchmark {', '.join(unknown)}; there are {', '.join(NAMES)}")
    if arguments.against:
        flags = ["--appendfsync", arguments.appendfsync, *(["--quick"] if arguments.quick else [])]
        return against.run(arguments.against, arguments.names or ["three", "burst"], arguments.pairs, flags)
    names = arguments.names or [name for name in NAMES if name not in NOT_BY_DEFAULT]
    options = Options(arguments.appendfsync, arguments.flows, arguments.quick)
    kept = results.Results(keep_others=bool(arguments.names))
    print(f"appendfsync {options.appendfsync}; Redis, nodes, workers and load on this machine\n{HEADING}")
    missed, began = 0, time.monotonic()
    for number, name in enumerate(names, start=1):
        print(f"-- {name} ({number} of {len(names)}, {time.monotonic() - began:.0f} s so far)", flush=True)
        measured, started, usage = [], time.monotonic(), Usage.now()
        with profiles.of(name) if arguments.profile else nullcontext():
            for one in _run(name, options):
                measured.append(one)
                if isinstance(one, Figure):
                    print(one.line(), flush=True)
                    missed += one.good is False
        others = usage.others_cores()
        if others > OTHERS_CORES:
            print(f"   others kept {others:.2f} of {os.cpu_count()} cores busy meanwhile: the figures are too slow")
        kept.add(name, options, measured, time.monotonic() - started, others)
    print(f"{missed} goals missed; {time.monotonic() - began:.0f} s")
    published = {name: one for name, one in kept.benchmarks.items() if not one["quick"]}
    for path in plots.draw(published):
        print(f"drawn: {path}")
    if page := scale.write(published):
        print(f"computed: {page}")
    return 0


def _run(name: str, options: Options) -> Iterator[Measured]:
    if name in ALONE:
        yield from ALONE[name](options)
        return
    with run_redis(options.appendfsync) as redis, run_server(redis) as server:
        yield from ON_A_SERVER[name](server, options)


if __name__ == "__main__":
    raise SystemExit(main())
