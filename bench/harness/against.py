"""This version beside an older one, turn and turn about: `nox -s bench -- three burst --against COMMIT`.

The older one is checked out and installed into an environment of its own, and measured by its own benchmarks: they
know where its modules are, and all processes that they start run its code. Each pair of runs gives a ratio for each
figure that both have, matched by name; what is printed is the median of the pairs' ratios with its 95 % interval (of
the order statistics: no distribution is assumed). A figure differs by more than a share only if all of its interval
does.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs

from bench.harness.figures import format_number
from bench.harness.places import ROOT

PAIRS = 9
#: No pair begins later than this.
SECONDS_MAX = 20 * 60
#: An interval that lies wholly beyond this is called a difference, unless `--within` gives another one.
SHARE = 0.05
#: How benchmarks were started before they were a package.
SCRIPT = Path("bench") / "run.py"


@attrs.frozen
class Compared:
    """`ratios` are new over old, one a pair."""

    what: str
    unit: str
    old: float
    new: float
    ratios: Sequence[float]

    def line(self, share: float) -> str:
        """As it is printed; `share` is the smallest difference that is called one."""
        low, high = interval(self.ratios)
        verdict = ""
        if low > 1 + share or high < 1 - share:
            verdict = f"differs by more than {share:.0%}"
        elif low < 1 - share or high > 1 + share:
            verdict = f"too wide to say within {share:.0%}"
        median = statistics.median(self.ratios)
        values = f"{format_number(self.old):>9} {format_number(self.new):>9} {self.unit:12}"
        return f"{self.what:60} {values} {median:6.3f} ({low:.3f} .. {high:.3f})  {verdict}".rstrip()


def interval(ratios: Sequence[float]) -> tuple[float, float]:
    """The narrowest pair of order statistics that holds the median with 95 %, or the lowest and highest."""
    ordered, count = sorted(ratios), len(ratios)
    outside = 0.0  # chance that the median is below the value at this place
    place = 0
    for number in range(count // 2):
        outside += math.comb(count, number) / 2**count
        if 2 * outside > 0.05:
            break
        place = number
    return ordered[place], ordered[count - 1 - place]


def run(commit: str, names: Sequence[str], pairs: int, share: float, flags: Sequence[str]) -> int:
    """Print the ratios; the exit code."""
    measured: dict[str, list[tuple[float, float]]] = {}
    units: dict[str, str] = {}
    began = time.monotonic()
    with _checked_out(commit) as (old_root, old_python):
        trees = {"old": (old_root, old_python), "new": (ROOT, sys.executable)}
        for number in range(pairs):
            if time.monotonic() - began > SECONDS_MAX:
                print(f"no more pairs after {SECONDS_MAX / 60:.0f} minutes")
                break
            found: dict[str, dict[str, float]] = {}
            for which in ("old", "new") if number % 2 == 0 else ("new", "old"):
                found[which] = _measure(*trees[which], names, flags, units)
            for what in found["old"].keys() & found["new"].keys():
                measured.setdefault(what, []).append((found["old"][what], found["new"][what]))
            print(f"-- pair {number + 1} of {pairs}, {time.monotonic() - began:.0f} s so far", flush=True)
    print(f"{'what':60} {commit[:9]:>9} {'this':>9} {'':12} {'ratio':>6} (95 % interval of the median)")
    for what in units:
        ratios = [new / old for old, new in measured.get(what, ()) if old]
        if ratios:
            old, new = (statistics.median(side) for side in zip(*measured[what], strict=True))
            print(Compared(what, units[what], old, new, ratios).line(share))
    return 0


def _measure(
    root: Path, python: str, names: Sequence[str], flags: Sequence[str], units: dict[str, str]
) -> dict[str, float]:
    """The figures of one run in one tree."""
    command = [*start_command(root, python), *names, *flags]
    # A search path from outside would mix the modules of one tree into the other one.
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    benchmarks = json.loads((root / "bench" / "results.json").read_text())["benchmarks"]
    figures = [figure for name in names for figure in benchmarks[name]["figures"]]
    for figure in figures:
        units.setdefault(figure["what"], figure["unit"])
    return {figure["what"]: figure["value"] for figure in figures}


def start_command(root: Path, python: str) -> list[str]:
    """What starts the benchmarks of one tree, from that tree."""
    if (root / SCRIPT).exists():
        return [python, str(root / SCRIPT)]
    return [python, "-m", "bench", "--no-pages"]


@contextmanager
def _checked_out(commit: str) -> Iterator[tuple[Path, str]]:
    """The older version in a folder of its own, installed; its root and its Python."""
    with tempfile.TemporaryDirectory(prefix="orchy-against-") as folder:
        root = Path(folder) / "tree"
        _run("git", "-C", str(ROOT), "worktree", "add", "--quiet", "--detach", str(root), commit)
        try:
            print(f"installing {commit} ...", flush=True)
            _run(sys.executable, "-m", "venv", str(Path(folder) / "venv"))
            python = str(Path(folder) / "venv" / "bin" / "python")
            pip = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
            _run(*pip, "-e", str(root), "matplotlib>=3.9", "py-spy>=0.4")
            yield root, python
        finally:
            _run("git", "-C", str(ROOT), "worktree", "remove", "--force", str(root))


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed: {done.stderr.strip()}")
