"""Celery's chain of three tasks that do nothing, on the same Redis. Run by the Python that has Celery, without Orchy.

`python -m bench.compare.celery_process REDIS_PORT DATABASE RESULTS POOL [PROCESSES]` keeps all results or only the
last one of each chain (RESULTS is `all` or `last`). For each line `FLOWS BURST` on the standard input it prints
{"p50_ms": ..., "p99_ms": ..., "flows_a_second": ..., "lost": ...}. Its Celery worker imports the same module.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time

from celery import Celery, chain, exceptions  # type: ignore[import-not-found]

URL = os.environ.get("CELERY_PEER_URL") or f"redis://127.0.0.1:{sys.argv[1]}/{sys.argv[2]}"
#: A result that has not come by then never comes: the client has missed it. The round is counted and repeated.
RESULT_SECONDS, ROUNDS_MAX = 20, 5
app = Celery("celery_peer", broker=URL, backend=URL)
# Faster than the defaults: no rate limits, no events, many tasks prefetched.
app.conf.update(
    broker_connection_retry_on_startup=True,
    worker_prefetch_multiplier=64,
    task_acks_late=False,
    worker_disable_rate_limits=True,
    worker_send_task_events=False,
)


@app.task(name="step")  # type: ignore[untyped-decorator]
def step(_: object = None) -> dict[str, object]:
    """Do nothing."""
    return {}


def three(only_last: bool) -> object:
    """Start one chain; its result comes later."""
    first, second = step.s(None), step.s()
    if only_last:
        first, second = first.set(ignore_result=True), second.set(ignore_result=True)
    return chain(first, second, step.s()).apply_async()


def measure(flows: int, burst: int, only_last: bool) -> dict[str, float]:
    """Measure one round."""
    taken = []
    for _ in range(flows):
        began = time.perf_counter()
        three(only_last).get(timeout=RESULT_SECONDS)  # type: ignore[attr-defined]
        taken.append((time.perf_counter() - began) * 1e3)
    began = time.perf_counter()
    for result in [three(only_last) for _ in range(burst)]:
        result.get(timeout=RESULT_SECONDS)  # type: ignore[attr-defined]
    rate = burst / (time.perf_counter() - began)
    p99 = sorted(taken)[min(len(taken) - 1, int(len(taken) * 0.99))]
    return {"p50_ms": statistics.median(taken), "p99_ms": p99, "flows_a_second": rate}


def measure_until_whole(flows: int, burst: int, only_last: bool) -> dict[str, float]:
    """Measure a round in which every result came, and count the rounds before it in which one did not."""
    for lost in range(ROUNDS_MAX):
        try:
            return {**measure(flows, burst, only_last), "lost": lost}
        except exceptions.TimeoutError:
            continue
    raise SystemExit(f"Celery lost a result in each of {ROUNDS_MAX} rounds")


def main() -> None:
    """Start a worker, measure each round that is asked for, stop the worker."""
    kept, pool, *processes = sys.argv[3:]
    only_last = kept == "last"
    command = [sys.executable, "-W", "ignore", "-m", "celery", "-A", "bench.compare.celery_process", "worker"]
    command += ["--pool", pool]
    command += ["-c", *processes] if processes else []
    command += ["-n", f"{pool}@peer", "--loglevel", "error"]
    worker = subprocess.Popen(
        [*command, "--without-gossip", "--without-mingle", "--without-heartbeat"],
        env={**os.environ, "CELERY_PEER_URL": URL},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        three(only_last).get(timeout=60)  # type: ignore[attr-defined]
        for line in sys.stdin:
            flows, burst = map(int, line.split())
            print(json.dumps(measure_until_whole(flows, burst, only_last)), flush=True)
        app.close()
    finally:
        worker.terminate()
        worker.wait()


if __name__ == "__main__":
    main()
