"""The command line: `python -m tests.faults NAME ...`, `all`, or none for the list."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import attrs

from tests.faults.faults import FAULTS
from tests.faults.processes import environment_check
from tests.faults.run import describe, run_fault
from tests.faults.world import Settings

RESULTS = Path(__file__).with_name("results.json")
#: How many broken rules are printed.
BROKEN_SHOWN_MAX = 15


def main() -> int:
    """Exit code 0: no rule was broken unexpectedly; 1: some were, or a run could not be made."""
    defaults = Settings()
    parser = argparse.ArgumentParser("python -m tests.faults", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="faults, or `all`: each alone")
    parser.add_argument("--seconds", type=float, default=defaults.seconds, help="how long a fault lasts, where free")
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--fsync", choices=["always", "everysec"], default=defaults.fsync, help="Redis's appendfsync")
    parser.add_argument("--rate", type=float, default=defaults.rate, help="flows started a second")
    parser.add_argument("--nodes", type=int, default=defaults.nodes)
    parser.add_argument("--markdown", action="store_true", help="print the results file as a table, at the end")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the rows are kept, by their commands")
    args = parser.parse_args()
    environment_check()
    names = list(FAULTS) if args.names == ["all"] else args.names
    unknown = [name for name in names if name not in FAULTS]
    if unknown:
        parser.error(f"there is no fault {', '.join(unknown)}; there are {', '.join(FAULTS)}")
    if not names and not args.markdown:
        for fault in FAULTS.values():
            print(f"{fault.name:18} {fault.what}")
    settings = Settings(nodes=args.nodes, rate=args.rate, seconds=args.seconds, seed=args.seed, fsync=args.fsync)
    broken = [name for name in names if not _run(name, settings, args.results)]
    if args.markdown:
        print(markdown(json.loads(args.results.read_text())))
    return 1 if broken else 0


def _run(name: str, settings: Settings, results: Path) -> bool:
    began = time.monotonic()
    command = _command(name, settings)
    print(f"{command}  # {FAULTS[name].what}", flush=True)
    try:
        verdict = run_fault(FAULTS[name], settings)
    except RuntimeError as error:
        print(f"  could not be run: {error}", flush=True)
        return False
    print(f"  {describe(verdict)}; {time.monotonic() - began:.0f} s", flush=True)
    expected = FAULTS[name].expected_to_fail
    if expected and verdict.broken:
        print(f"  EXPECTED TO FAIL: {expected}", flush=True)
    elif expected:
        print(f"  held this time, though it is expected to fail: {expected}", flush=True)
    for line in verdict.broken[:BROKEN_SHOWN_MAX]:
        print(f"  {'broken, as expected:' if expected else 'BROKEN'} {line}", flush=True)
    if len(verdict.broken) > BROKEN_SHOWN_MAX:
        print(f"  and {len(verdict.broken) - BROKEN_SHOWN_MAX} more")
    rows: dict[str, Any] = json.loads(results.read_text()) if results.exists() else {}
    rows[command] = {
        "fault": name,
        **attrs.asdict(verdict.figures),
        "broken": len(verdict.broken),
        "expected": bool(expected),
    }
    results.write_text(json.dumps(rows, indent=1) + "\n")
    return expected is not None or not verdict.broken


def _command(name: str, settings: Settings) -> str:
    """The command that repeats a row: with the flags that differ from the defaults."""
    flags = [
        f" --{flag} {getattr(settings, flag):g}"
        for flag in ("seconds", "seed", "rate", "nodes")
        if getattr(settings, flag) != getattr(Settings(), flag)
    ]
    fsync = f" --fsync {settings.fsync}" if settings.fsync != Settings().fsync else ""
    return f"python -m tests.faults {name}{''.join(flags)}{fsync}"


_COLUMNS = {
    "fault": "fault",
    "accepted": "flows accepted",
    "ended": "ended",
    "lost": "lost",
    "store_lost": "lost by Redis",
    "recorded_twice": "results twice",
    "re_executions": "re-executions",
    "late_results": "late results",
    "heal_p50_seconds": "heal p50 s",
    "heal_max_seconds": "heal max s",
    "throughput_kept_percent": "throughput kept %",
    "lateness_p50_ms": "timers late p50 ms",
    "lateness_p99_ms": "p99 ms",
    "lateness_max_ms": "max ms",
    "broken": "rules broken",
}


def markdown(rows: dict[str, dict[str, Any]]) -> str:
    """All rows as a table."""
    lines = ["| " + " | ".join([*_COLUMNS.values(), "command"]) + " |", "| --- " * (len(_COLUMNS) + 1) + "|"]
    for command, row in rows.items():
        cells = ["" if row[name] is None else f"{row[name]:g}" if name != "fault" else row[name] for name in _COLUMNS]
        if row.get("expected"):
            cells[-1] += " (expected to fail)"
        lines.append("| " + " | ".join([*cells, f"`{command}`"]) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
