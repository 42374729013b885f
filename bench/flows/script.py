"""*script*: a flow that is one script, which the server runs itself."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from bench.harness.figures import Measured, figure
from bench.harness.options import Options
from bench.harness.processes import Server
from bench.harness.work import run_to_end


def run(server: Server, options: Options) -> Iterator[Measured]:
    """A flow that is one script, which the server runs itself."""
    action = {"id": 1, "type": "system", "name": "javascript", "expression": "$.x = 1 + 1"}
    server.call("POST", "/workflow", {"name": "script", "rootAction": 1, "actions": [action]})
    for _ in range(20):
        run_to_end(server, "script")
    rounds = [[run_to_end(server, "script")[0] for _ in range(100)] for _ in range(options.runs)]
    yield figure("script, p50", [statistics.median(one) for one in rounds], "ms")
