"""`python -m tests.attacks [NAME ...]`: attack real nodes and print the results; exit code 1 if a bound was missed."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.attacks.catalog import ATTACKS
from tests.attacks.harness import observe

PAGE = Path(__file__).parents[2] / "docs" / "security.md"
BEGIN, END = "<!-- ATTACKS -->", "<!-- /ATTACKS -->"


def main() -> int:
    """Run the attacks that were named, or all."""
    parser = argparse.ArgumentParser("python -m tests.attacks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"just these: {', '.join(sorted(ATTACKS))}")
    parser.add_argument("--write", action="store_true", help="put the table into docs/security.md")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.names if name not in ATTACKS]:
        parser.error(f"there is no attack {', '.join(unknown)}; there are {', '.join(sorted(ATTACKS))}")
    names = arguments.names or list(ATTACKS)
    rows, missed, began = [], [], time.monotonic()
    for number, name in enumerate(names, start=1):
        one = ATTACKS[name]
        print(f"-- {name} ({number} of {len(names)}, {time.monotonic() - began:.0f} s so far): {one.what}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            try:
                observed = observe(one, Path(folder))
            except AssertionError as error:
                missed.append(name)
                print(f"   MISSED: {error}", flush=True)
                continue
        good = (
            observed.alive
            and observed.longest_seconds <= one.waits_seconds_max
            and observed.grown_mb <= one.memory_mb_max
        )
        if not good:
            missed.append(name)
        print(f"   {'ok' if good else 'MISSED'}: {observed.shown} (bound: {one.bound})", flush=True)
        rows.append(f"| {one.what} | {observed.shown} | {one.bound} |")
    table = "\n".join(["| attack | observed | bound |", "| --- | --- | --- |", *rows])
    if arguments.write:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n{table}\n{END}{rest.partition(END)[2]}")
    print(f"{len(names) - len(missed)} of {len(names)} within their bounds; {time.monotonic() - began:.0f} s")
    if missed:
        print(f"missed: {', '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
