"""*notify*: the notification workflow, its delay and its wait set to 0.2 s."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from importlib.resources import files

from bench.harness.figures import Measured, figure
from bench.harness.options import Options
from bench.harness.processes import Server, run_demo_worker
from bench.harness.work import notification, run_to_end

SECONDS = 0.2
FLOWS = 20


def run(server: Server, options: Options) -> Iterator[Measured]:
    """Both paths through the workflow: with the delay, and with a wait that times out."""
    server.call("POST", "/workflow", notification(SECONDS))
    start = json.loads(files("orchy.commands.demo").joinpath("notification_input.json").read_text())
    with run_demo_worker(server):
        for user, way in ((1234, "delay"), (1235, "wait")):
            input = {**start["input"], "userId": user}
            p50s = []
            for _ in range(options.runs):
                taken = [run_to_end(server, start["name"], input)[0] for _ in range(FLOWS)]
                p50s.append(statistics.median(taken) - SECONDS * 1e3)
            yield figure(f"notify, {way}, p50 beyond the {SECONDS} s", p50s, "ms")
