"""*three* and a burst beside Celery's chain of three, one after the other on one Redis."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from figures import Figure, at_least, at_most
from processes import Server, run_worker
from work import STEP, chain, run_to_end, start_many, wait_for_all

#: The Python of an environment that has Celery; `nox -s bench` makes one.
PYTHON = "CELERY_PYTHON"
FLOWS, BURST = 200, 1_000
PEER = Path(__file__).with_name("celery_peer.py")


def run(server: Server) -> Iterator[Figure]:
    """Ratios of one run."""
    python = os.environ.get(PYTHON)
    if python is None:
        print(f"  left out: {PYTHON} names no Python with Celery")
        return
    command = [python, str(PEER), str(server.redis_port), str(FLOWS), str(BURST)]
    theirs = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    server.call("POST", "/workflow", chain("three", 3))
    with run_worker(server, STEP):
        for _ in range(20):
            run_to_end(server, "three")
        p50 = statistics.median(run_to_end(server, "three")[0] for _ in range(FLOWS))
        began = time.perf_counter()
        start_many(server, "three", BURST)
        wait_for_all(server, "three")
        rate = BURST / (time.perf_counter() - began)
    yield Figure("Celery, chain of three, p50", theirs["p50_ms"], "ms")
    yield Figure("Celery, chain of three, p99", theirs["p99_ms"], "ms")
    yield Figure(f"Celery, burst {BURST:,}", theirs["flows_a_second"], "flows/s")
    yield at_most("three, p50, beside Celery's", p50 / theirs["p50_ms"], "times", 1)
    yield at_least(f"burst {BURST:,}, beside Celery's", rate / theirs["flows_a_second"], "times", 8)
