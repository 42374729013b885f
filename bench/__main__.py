"""The standard work on real processes: `python -m bench [PIECE ...]`, or `nox -s bench -- PIECE ...`.

Prints each figure beside its goal with the ratio of the two, keeps it in bench/results.json, and draws the plots of
docs/performance.md at the end. Machines are noisy: a figure is the median of some runs, the lowest and highest stand
beside it, and nothing here fails for being slow. `--profile` looks into the server meanwhile, which slows it.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from bench.harness import against, plots, profiles
from bench.harness.figures import HEADING, Figure
from bench.harness.noise import Usage
from bench.harness.options import Options
from bench.harness.places import RESULTS
from bench.harness.results import Results
from bench.pieces import PIECES, table
from bench.scale import page

#: Above this share of a core, other processes of the machine are mentioned: they make all figures worse.
OTHERS_CORES = 0.1


def main() -> int:
    """Run some pieces, or all."""
    parser = _parser()
    arguments = parser.parse_intermixed_args()
    if unknown := [name for name in arguments.names if name not in PIECES]:
        parser.error(f"there is no benchmark {', '.join(unknown)}; there are {', '.join(PIECES)}")
    if arguments.against:
        flags = ["--appendfsync", arguments.appendfsync, *(["--quick"] if arguments.quick else [])]
        names, share = arguments.names or ["three", "burst"], arguments.within / 100
        return against.run(arguments.against, names, arguments.pairs, share, flags)
    names = arguments.names or [piece.name for piece in PIECES.values() if piece.by_default]
    options = Options(arguments.appendfsync, arguments.flows, arguments.quick)
    results = Results(arguments.results, keep_others=bool(arguments.names))
    run(names, options, results, profiled=arguments.profile)
    if arguments.pages:
        _publish(results)
    return 0


def run(names: Sequence[str], options: Options, results: Results, *, profiled: bool) -> None:
    """Measure, print and keep one piece after the other."""
    print(f"appendfsync {options.appendfsync}; Redis, nodes, workers and load on this machine\n{HEADING}")
    missed, began = 0, time.monotonic()
    for number, name in enumerate(names, start=1):
        print(f"-- {name} ({number} of {len(names)}, {time.monotonic() - began:.0f} s so far)", flush=True)
        measured, started, usage = [], time.monotonic(), Usage.now()
        with profiles.of(name) if profiled else nullcontext():
            for one in PIECES[name].run(options):
                measured.append(one)
                if isinstance(one, Figure):
                    print(one.line(), flush=True)
                    missed += one.good is False
        others = usage.others_cores()
        if others > OTHERS_CORES:
            print(f"   others kept {others:.2f} of {os.cpu_count()} cores busy meanwhile: the figures are too slow")
        results.add(name, options, measured, time.monotonic() - started, others)
    print(f"{missed} goals missed; {time.monotonic() - began:.0f} s")


def _publish(results: Results) -> None:
    """Draw the plots and compute the page from all figures that are fit for it."""
    published = {name: one for name, one in results.benchmarks.items() if not one["quick"]}
    for path in plots.draw(published):
        print(f"drawn: {path}")
    if written := page.write(published):
        print(f"computed: {written}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=__doc__,
        epilog=f"pieces, in this order:\n{table()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    flows = Options().flows
    parser.add_argument("names", nargs="*", metavar="PIECE", help="just these")
    parser.add_argument("--appendfsync", default="everysec", choices=("always", "everysec", "no"))
    parser.add_argument("--flows", type=int, default=flows, metavar="N", help=f"flows of *million* ({flows:,})")
    parser.add_argument("--quick", action="store_true", help="small counts: a look, not figures to publish")
    parser.add_argument(
        "--against", metavar="COMMIT", help="the same there and here in pairs, and the ratios of figures"
    )
    parser.add_argument("--pairs", type=int, default=against.PAIRS, metavar="N", help=f"of --against ({against.PAIRS})")
    parser.add_argument(
        "--within",
        type=float,
        default=100 * against.SHARE,
        metavar="PERCENT",
        help=f"what --against calls a difference ({100 * against.SHARE:g})",
    )
    parser.add_argument("--profile", action="store_true", help="a flame graph of each server into bench/profiles/")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FILE", help="instead of bench/results.json")
    parser.add_argument("--no-pages", dest="pages", action="store_false", help="leave the plots and pages as they are")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
