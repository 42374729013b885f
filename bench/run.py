"""The standard work on real processes: `python bench/run.py [NAME ...]`, or `nox -s bench -- NAME ...`.

Prints each figure beside its goal and keeps it in bench/results.json. Machines are noisy: most figures are medians, the
Redis setting stands beside them, and nothing here fails for being slow.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import burst
import chain
import idle
import notify
import peer
import starts
import three
import timers
from figures import Figure
from processes import Server, run_redis, run_server

RESULTS = Path(__file__).parent / "results.json"

BENCHES: dict[str, Callable[[Server], Iterator[Figure]]] = {
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
}


def main() -> int:
    """Run some benchmarks, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"just these: {', '.join(BENCHES)}")
    parser.add_argument("--appendfsync", default="everysec", choices=("always", "everysec", "no"))
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - BENCHES.keys():
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}")
    results = json.loads(RESULTS.read_text()) if arguments.names and RESULTS.exists() else {}
    print(f"appendfsync {arguments.appendfsync}; Redis, server, worker and load on this machine")
    for name in arguments.names or BENCHES:
        with run_redis(arguments.appendfsync) as redis_port, run_server(redis_port) as server:
            figures = []
            for figure in BENCHES[name](server):
                print(figure.line(), flush=True)
                figures.append(attrs.asdict(figure))
        results[name] = {"appendfsync": arguments.appendfsync, "figures": figures}
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
