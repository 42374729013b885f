"""How the ring moves partitions, beside two other schemes: `python -m bench.ring [--json FILE]`.

Each line is the mean of some sets of names, the time their median. The seeds are printed.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

import attrs

from bench.ring.moves import CHANGES, PARTITIONS, RUNS, change, least_for, measure
from bench.ring.schemes import LOAD_BOUND, SCHEMES, VIRTUAL_NODES


@attrs.frozen
class Figures:
    """One line: means over the runs, and the median of the times."""

    members: str
    partitions: int
    least: float
    scheme: str
    moved: float
    spread: float
    max_over_mean: float
    ms: float


def main() -> int:
    """Print the table; write it as JSON if asked to."""
    parser = argparse.ArgumentParser(prog="python -m bench.ring", description=__doc__)
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the figures there too")
    options = parser.parse_args()
    print(f"seeds 0 to {RUNS - 1}; bounded consistent: {VIRTUAL_NODES} virtual nodes, bound {float(LOAD_BOUND)}")
    print("least: the fewest that move between two balanced rings\n")
    print("| members | partitions | least | scheme | moved | max - min | max / mean | ms |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    figures = []
    for before, after in CHANGES:
        changes = [change(seed, before, after) for seed in range(RUNS)]
        for partitions in PARTITIONS:
            least = statistics.fmean(least_for(*one, partitions) for one in changes)
            for name, scheme in SCHEMES.items():
                line = Figures(f"{before} -> {after}", partitions, least, name, *measure(scheme, changes, partitions))
                print(
                    f"| {line.members} | {partitions} | {least:.1f} | {name} | {line.moved:.1f} | {line.spread:.1f} "
                    f"| {line.max_over_mean:.2f} | {line.ms:.1f} |",
                    flush=True,
                )
                figures.append(line)
    if options.json:
        document = {"runs": RUNS, "figures": [attrs.asdict(line) for line in figures]}
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
