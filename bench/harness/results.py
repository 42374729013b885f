"""bench/results.json: the last figures of each benchmark, and what they were measured on."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import attrs

from bench.harness.figures import Figure, Measured, Series
from bench.harness.options import Options
from bench.harness.places import RESULTS, ROOT
from orchy.store.redis.embedded import find_binary

PACKAGES = ("trio", "redis", "hiredis", "hypercorn", "quart-trio", "protobuf", "msgspec")


class Results:
    """Written anew after each benchmark, so that what was measured is not lost when a later one fails."""

    def __init__(self, *, keep_others: bool) -> None:
        kept = json.loads(RESULTS.read_text()) if keep_others and RESULTS.exists() else {}
        self.benchmarks: dict[str, Any] = kept.get("benchmarks", {})

    def add(
        self, name: str, options: Options, measured: Sequence[Measured], seconds: float, others_cores: float
    ) -> None:
        """Keep what one benchmark gave, in the place of what it gave before."""
        self.benchmarks[name] = {
            "appendfsync": options.appendfsync,
            "quick": options.quick,
            "commit": _commit(),
            "ended": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
            "seconds": round(seconds, 1),
            "others_cores": round(others_cores, 2),
            "figures": [attrs.asdict(one) for one in measured if isinstance(one, Figure)],
            "series": {one.name: one.points for one in measured if isinstance(one, Series)},
        }
        RESULTS.write_text(json.dumps({"machine": _machine(), "benchmarks": self.benchmarks}, indent=1) + "\n")


def value(benchmarks: Mapping[str, Any], benchmark: str, what: str) -> float:
    """The first figure whose name begins so. Raises KeyError."""
    for figure in benchmarks[benchmark]["figures"]:
        if figure["what"].startswith(what):
            return float(figure["value"])
    raise KeyError(what)


def _machine() -> dict[str, Any]:
    redis = subprocess.run([str(find_binary()), "--version"], capture_output=True, text=True, check=True).stdout
    return {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "redis": " ".join(redis.split()[:3]),
        "packages": {name: version(name) for name in PACKAGES},
    }


def _commit() -> str:
    """Which version was measured; `+` after it: with changes that are not committed."""
    git = ["git", "-C", str(ROOT)]
    try:
        commit = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True)
        changes = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit.stdout.strip() + ("+" if changes.stdout.strip() else "")
