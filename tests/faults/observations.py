"""What was seen of a run, by those outside the cluster and in the histories that it gives. Frozen; times in seconds
since 1970: clients, workers and Redis share one host and so one clock, which the nodes' wrong clocks do not touch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import attrs


@attrs.frozen
class Noted:
    """One line of a client's or a worker's log."""

    at: float
    what: str
    flow: str
    details: Mapping[str, Any]

    @property
    def attempt(self) -> tuple[str, int, int]:
        """Flow, action and attempt of a worker's line."""
        return self.flow, self.details["action"], self.details["attempt"]


@attrs.frozen
class Line:
    """One line of a history."""

    at: float
    type: str
    action: int | None
    attempt: int | None
    detail: Any = None


@attrs.frozen
class Seen:
    """A run. `flows` holds the answer of GET /flow/{id}, None for 404, for each flow that a client asked for.

    `epochs` are samples of the partitions' epochs, in order. `leftovers` says what was found in Redis when all flows
    were over. The fault lasts from `began` to `ended`; `heal_from` is when recovery can begin (`began` for a kill that
    others make up for). `delivery_seconds`: how long an attempt that was handed out may be on its way to a worker.
    `store_may_lose`: the store itself may lose accepted data; with `loses_from`, nothing older than that.
    """

    client: Sequence[Noted]
    workers: Sequence[Noted]
    flows: Mapping[str, Mapping[str, Any] | None]
    histories: Mapping[str, Sequence[Line]]
    epochs: Sequence[Mapping[int, int]]
    leftovers: Sequence[str]
    baseline: tuple[float, float]
    began: float
    ended: float
    heal_from: float
    delivery_seconds: float
    store_may_lose: bool = False
    loses_from: float | None = None


def read_log(path: Path) -> list[Noted]:
    """The lines of a log, without a last one that a kill cut off."""
    noted = []
    for line in path.read_text().splitlines():
        try:
            details = json.loads(line)
        except ValueError:
            continue
        noted.append(Noted(details.pop("at"), details.pop("what"), details.pop("flow"), details))
    return noted


def read_logs(paths: Iterable[Path]) -> list[Noted]:
    """The lines of several logs, ordered by time."""
    return sorted((noted for path in paths for noted in read_log(path)), key=lambda noted: noted.at)


def read_history(answer: Mapping[str, Any]) -> list[Line]:
    """The lines in the answer of GET /flow/{id}/history."""
    return [
        Line(
            datetime.fromisoformat(line["time"]).timestamp(),
            line["type"],
            line.get("actionId"),
            line.get("attempt"),
            line.get("detail"),
        )
        for line in answer["history"]
    ]
