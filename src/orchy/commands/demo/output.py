"""The demo's output: a line for each step, a colour for each flow, and a table at the end."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

_COLOURS = {"MALE": "34", "FEMALE, opens": "32", "FEMALE, waits": "35"}

_WORDS = {
    "started": "flow started",
    "scheduled": "scheduled",
    "handedOut": "taken by {worker}",
    "completed": "completed",
    "failed": "failed: {detail}",
    "timedOut": "timed out",
    "retry": "tried again in {detail} s",
    "late": "late result",
    "event": "event {detail} arrived",
    "eventKept": "event {detail} kept",
    "missing": "nothing at {detail}",
    "flowCompleted": "flow completed",
    "flowFailed": "flow failed: {detail}",
}


def _coloured(text: str, colour: str) -> str:
    if sys.stdout.isatty() and "NO_COLOR" not in os.environ:
        return f"\x1b[{colour}m{text}\x1b[0m"
    return text


def step_line(label: str, seconds: float, line: dict[str, Any]) -> str:
    """One transition of a flow."""
    words = _WORDS.get(line["type"], line["type"]).format(
        worker=line.get("worker", "a worker"), detail=line.get("detail")
    )
    if line["type"] == "completed" and line.get("detail"):
        words += f" -> {line['detail']}"
    action = f"{line['actionId']} {line['actionName']}" if "actionId" in line else ""
    return _coloured(f"{seconds:7.3f} s  {label:14} {action:14} {words}", _COLOURS.get(label, "0"))


def sent_line(label: str, seconds: float, action: str, data: dict[str, Any]) -> str:
    """A message that the worker was asked to send."""
    to = data.get("phoneNumber") or data.get("to")
    return _coloured(
        f"{seconds:7.3f} s  {label:14} {'':14} {action} to {to}: {data['message']!r}", _COLOURS.get(label, "0")
    )


def table(rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns, the first row being the head."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])
