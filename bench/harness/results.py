"""bench/results.json: the latest figures of each benchmark, and the machine they were measured on."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import attrs

from bench.harness.figures import Figure, Measured, Series
from bench.harness.options import Options
from bench.harness.places import ROOT
from orchy.store.redis.embedded import find_binary

PACKAGES = ("trio", "redis", "hiredis", "hypercorn", "quart-trio", "protobuf", "msgspec")


class Results:
    """Written after each benchmark, so that a failure of a later one loses nothing."""

    def __init__(self, path: Path, *, keep_others: bool) -> None:
        self._path = path
        kept = json.loads(path.read_text()) if keep_others and path.exists() else {}
        self.benchmarks: dict[str, Any] = kept.get("benchmarks", {})

    def add(
        self, name: str, options: Options, measured: Sequence[Measured], seconds: float, others_cores: float
    ) -> None:
        """Replace the figures of one benchmark."""
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
        self._path.write_text(json.dumps({"machine": _machine(), "benchmarks": self.benchmarks}, indent=1) + "\n")


def value(benchmarks: Mapping[str, Any], benchmark: str, what: str) -> float:
    """The first figure whose name begins with `what`. Raises KeyError."""
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
    """The commit that was measured, with `+` if there are uncommitted changes."""
    git = ["git", "-C", str(ROOT)]
    try:
        commit = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True)
        changes = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit.stdout.strip() + ("+" if changes.stdout.strip() else "")
