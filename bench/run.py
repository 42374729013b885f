"""The figures of one node, on real processes: `python bench/run.py [NAME ...]`, or `nox -s bench -- NAME ...`.

Prints each figure beside its goal and writes bench/results.json. Machines are noisy: a figure is a median, the Redis
setting stands beside it, and nothing here fails for being slow.
"""

from __future__ import annotations

import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from processes import Server, run_redis, run_server, run_worker

RESULTS = Path(__file__).parent / "results.json"
APPENDFSYNC = "everysec"


def chain(name: str, length: int) -> dict[str, Any]:
    """User actions in a row."""
    actions = [
        {"id": n, "type": "user", "name": "step", "next": {"default": [n + 1]} if n < length else {}}
        for n in range(1, length + 1)
    ]
    return {"name": name, "rootAction": 1, "actions": actions}


def percentile(values: list[float], percent: float) -> float:
    """The value that `percent` of them are not above."""
    return sorted(values)[min(len(values) - 1, int(len(values) * percent / 100))]


def run_to_end(server: Server, name: str) -> tuple[float, float]:
    """Start a flow and see it end: ms from the request to when it was COMPLETED by the store's clock, which is this
    machine's (a millisecond is added for what that rounds off), and to when a client knew that asks each 5 ms.

    A client that asks without a pause would take the server's time for its questions.
    """
    began = time.time() * 1_000
    flow_id = server.call("POST", "/flow/execute", {"name": name, "input": {}})["flowId"]
    while (flow := server.call("GET", f"/flow/{flow_id}"))["state"] != "COMPLETED":
        time.sleep(0.005)
    seen = time.time() * 1_000
    return datetime.fromisoformat(flow["endedAt"]).timestamp() * 1_000 + 1 - began, seen - began


def times_ms(server: Server, flow_id: str, kind: str) -> list[float]:
    """When transitions of one type happened, by the store's clock."""
    lines = server.call("GET", f"/flow/{flow_id}/history")["history"]
    return [datetime.fromisoformat(line["time"]).timestamp() * 1000 for line in lines if line["type"] == kind]


def bench_three(server: Server) -> list[tuple[str, float, str]]:
    """Three user actions in a row, one flow at a time."""
    server.call("POST", "/workflow", chain("three", 3))
    with run_worker(server, "step"):
        for _ in range(20):
            run_to_end(server, "three")
        runs = [run_to_end(server, "three") for _ in range(300)]
    taken = [ended for ended, _ in runs]
    return [
        ("three, p50, ms", statistics.median(taken), "<= 15"),
        ("three, p99, ms", percentile(taken, 99), ""),
        ("three, seen by a client each 5 ms, p50, ms", statistics.median(seen for _, seen in runs), ""),
    ]


def bench_chain(server: Server) -> list[tuple[str, float, str]]:
    """A chain of 1,000: what the last steps cost beside the first."""
    server.call("POST", "/workflow", chain("chain-1000", 1_000))
    ratios, totals = [], []
    with run_worker(server, "step"):
        for _ in range(5):
            flow_id = server.call("POST", "/flow/execute", {"name": "chain-1000", "input": {}})["flowId"]
            while server.call("GET", "/flow?name=chain-1000&state=RUNNING&limit=1")["flows"]:
                time.sleep(0.2)
            at = times_ms(server, flow_id, "completed")
            steps = [later - sooner for sooner, later in itertools.pairwise(at)]
            ratios.append(statistics.fmean(steps[-100:]) / statistics.fmean(steps[:100]))
            totals.append(at[-1] - at[0])
    return [
        ("chain 1,000, last tenth / first tenth", statistics.median(ratios), "<= 1.2"),
        ("chain 1,000, ms a step", statistics.median(totals) / 999, ""),
    ]


def bench_timers(server: Server) -> list[tuple[str, float, str]]:
    """1,000 delays that are due within one second: 20 flows that fork into 50."""
    delays = [{"id": n, "type": "system", "name": "delay", "delaySeconds": 3} for n in range(2, 52)]
    fork = {"id": 1, "type": "system", "name": "switch", "expression": "x", "next": {"x": list(range(2, 52))}}
    server.call("POST", "/workflow", {"name": "delays", "rootAction": 1, "actions": [fork, *delays]})
    ids = []
    began = time.perf_counter()
    for number in range(20):
        time.sleep(max(0, began + number * 0.045 - time.perf_counter()))
        ids.append(server.call("POST", "/flow/execute", {"name": "delays", "input": {}})["flowId"])
    time.sleep(6)
    due, late = [], []
    for flow_id in ids:
        (set_at, *_), ended_at = times_ms(server, flow_id, "scheduled"), times_ms(server, flow_id, "completed")[1:]
        assert len(ended_at) == 50
        due.append(set_at + 3_000)
        late += [at - set_at - 3_000 for at in ended_at]
    return [
        ("timers, 1,000 due within, s", (max(due) - min(due)) / 1_000, "<= 1"),
        ("timers, earliest, ms late", min(late), ">= 0"),
        ("timers, p50, ms late", statistics.median(late), ""),
        ("timers, p99, ms late", percentile(late, 99), "<= 50"),
    ]


def bench_idle(server: Server) -> list[tuple[str, float, str]]:
    """What a server does that has nothing to do."""
    time.sleep(3)
    calls, cpu, began = server.metric("orchy_redis_commands_total"), server.cpu_seconds(), time.perf_counter()
    time.sleep(20)
    seconds = time.perf_counter() - began
    return [
        ("idle, Redis calls a second", (server.metric("orchy_redis_commands_total") - calls) / seconds, "<= 2"),
        ("idle, % of a core", (server.cpu_seconds() - cpu) / seconds * 100, ""),
    ]


def bench_starts(server: Server) -> list[tuple[str, float, str]]:
    """Starts of three user actions in a row, on one connection: one a request, and in batches."""
    server.call("POST", "/workflow", chain("three", 3))
    figures = []
    for size, requests in ((1, 1_000), (10, 200), (100, 30), (1_000, 6)):
        one = {"name": "three", "input": {"n": 1}}
        body = one if size == 1 else [one] * size
        server.call("POST", "/flow/execute", body)
        waits = []
        for _ in range(requests):
            began = time.perf_counter()
            server.call("POST", "/flow/execute", body)
            waits.append((time.perf_counter() - began) * 1_000)
        figures.append((f"starts, {size:,} a request, flows a second", size * requests / sum(waits) * 1_000, ""))
        figures.append((f"starts, {size:,} a request, p50, ms", statistics.median(waits), ""))
    return figures


def bench_script(server: Server) -> list[tuple[str, float, str]]:
    """A flow that is one script."""
    action = {"id": 1, "type": "system", "name": "javascript", "expression": "$.x = 1 + 1"}
    server.call("POST", "/workflow", {"name": "script", "rootAction": 1, "actions": [action]})
    for _ in range(20):
        run_to_end(server, "script")
    return [("script, p50, ms", statistics.median(run_to_end(server, "script")[0] for _ in range(200)), "")]


BENCHES: dict[str, Callable[[Server], list[tuple[str, float, str]]]] = {
    "idle": bench_idle,
    "three": bench_three,
    "chain": bench_chain,
    "timers": bench_timers,
    "starts": bench_starts,
    "script": bench_script,
}


def main(names: list[str]) -> int:
    """Run some benchmarks, or all."""
    unknown = set(names) - BENCHES.keys()
    if unknown:
        print(f"there is no benchmark {', '.join(sorted(unknown))}; there are {', '.join(BENCHES)}", file=sys.stderr)
        return 2
    results = {}
    print(f"{'figure':42} {'measured':>10}  goal      (Valkey, appendfsync {APPENDFSYNC}, all on one machine)")
    for name in names or BENCHES:
        with run_redis(APPENDFSYNC) as redis_port, run_server(redis_port) as server:
            for figure, value, goal in BENCHES[name](server):
                print(f"{figure:42} {value:10.2f}  {goal}", flush=True)
                results[figure] = {"measured": round(value, 3), "goal": goal}
    RESULTS.write_text(json.dumps({"appendfsync": APPENDFSYNC, "figures": results}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
