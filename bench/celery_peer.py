"""A peer: Celery's chain of three tasks that do nothing, on the same Redis. Run by the Python that has Celery.

`celery_peer.py REDIS_PORT FLOWS BURST` prints {"p50_ms": ..., "p99_ms": ..., "flows_a_second": ...}. As a module it is
what its worker processes import.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time

from celery import Celery, chain  # type: ignore[import-not-found]

PORT = os.environ.get("CELERY_PEER_PORT") or sys.argv[1]
app = Celery("celery_peer", broker=f"redis://127.0.0.1:{PORT}/1", backend=f"redis://127.0.0.1:{PORT}/1")
app.conf.update(broker_connection_retry_on_startup=True, worker_prefetch_multiplier=64, task_acks_late=False)


@app.task(name="step")  # type: ignore[untyped-decorator]
def step(_: object = None) -> dict[str, object]:
    """Nothing."""
    return {}


def three() -> object:
    """Started, its result to come."""
    return chain(step.s(None), step.s(), step.s()).apply_async()


def main() -> None:
    """Start a worker of two processes, measure, end it."""
    flows, burst = int(sys.argv[2]), int(sys.argv[3])
    command = [sys.executable, "-m", "celery", "-A", "celery_peer", "worker", "--pool", "prefork", "-c", "2"]
    worker = subprocess.Popen(
        [*command, "--loglevel", "error", "--without-gossip", "--without-mingle"],
        cwd=os.path.dirname(os.path.abspath(__file__)),
        env={**os.environ, "CELERY_PEER_PORT": PORT},
        stdout=subprocess.DEVNULL,
    )
    try:
        three().get(timeout=60)  # type: ignore[attr-defined]
        taken = []
        for _ in range(flows):
            began = time.perf_counter()
            three().get(timeout=60)  # type: ignore[attr-defined]
            taken.append((time.perf_counter() - began) * 1e3)
        began = time.perf_counter()
        for result in [three() for _ in range(burst)]:
            result.get(timeout=120)  # type: ignore[attr-defined]
        rate = burst / (time.perf_counter() - began)
    finally:
        worker.terminate()
        worker.wait()
    taken.sort()
    p99 = taken[min(len(taken) - 1, int(len(taken) * 0.99))]
    print(json.dumps({"p50_ms": statistics.median(taken), "p99_ms": p99, "flows_a_second": rate}))


if __name__ == "__main__":
    main()
