"""SIGKILL to the server, the store, and workers: nothing accepted is lost, and no result counts twice."""

from __future__ import annotations

import collections
import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

pytestmark = pytest.mark.real

FLOWS = 200
CHAIN = {
    "name": "chain",
    "rootAction": 1,
    "actions": [
        {"id": 1, "type": "user", "name": "a", "next": {"default": [2]}},
        {"id": 2, "type": "system", "name": "javascript", "expression": "$.x = 1", "next": {"default": [3]}},
        {"id": 3, "type": "user", "name": "b", "parameters": {"x": "{$.2.output.x}"}, "next": {"default": [4]}},
        {"id": 4, "type": "system", "name": "delay", "delaySeconds": 0.3, "next": {"default": [5]}},
        {"id": 5, "type": "user", "name": "c"},
    ],
}
WORKER = """
import sys, time
from orchy.worker import Worker
worker = Worker(sys.argv[1])
for name in "abc":
    @worker.action(name, retry_count=3, timeout_seconds=3, threads=8)
    def act(data):
        time.sleep(0.002)
        return {"ok": True}
worker.run()
"""


@pytest.fixture
def start_worker(wait_for):
    workers = []

    def start(server, code=WORKER):
        known = len(workers)
        workers.append(subprocess.Popen([sys.executable, "-c", code, server.grpc]))
        if not known:  # an attempt keeps the timeout that its action had when it was scheduled
            wait_for(lambda: len(server.get("/action")["actions"]) == 3)
        return workers[-1]

    yield start
    for worker in workers:
        if worker.poll() is None:
            worker.kill()
            worker.wait()


def start_flows(server, count):
    """Start flows with ids chosen here, each repeated until the server accepts it."""

    def start(number):
        while True:
            try:
                body = {"name": "chain", "flowId": f"flow-{number}", "input": {}}
                return server.post("/flow/execute", body)["flowId"]
            except (OSError, RuntimeError):
                time.sleep(0.05)

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(start, range(count)))


def check_histories(server, flow_ids):
    for flow_id in flow_ids:
        lines = server.get(f"/flow/{flow_id}/history")["history"]
        completed = collections.Counter(line["actionId"] for line in lines if line["type"] == "completed")
        assert completed == dict.fromkeys(range(1, 6), 1), (flow_id, lines)
        handed_out = collections.Counter((x["actionId"], x["attempt"]) for x in lines if x["type"] == "handedOut")
        assert set(handed_out.values()) == {1}, (flow_id, lines)
        assert lines[-1]["type"] in ("flowCompleted", "late")


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_server_that_is_killed_and_restarted_ends_every_flow(orchy_server, start_worker, wait_for, seed):
    print(f"seed {seed}")
    chance = random.Random(seed)
    server = orchy_server().start()
    server.post("/workflow", CHAIN)
    start_worker(server)
    with ThreadPoolExecutor(1) as background:
        starting = background.submit(start_flows, server, FLOWS)
        for _ in range(2):
            time.sleep(chance.uniform(0.1, 1.2))
            server.kill()  # the store dies with it
            server.start()
        flow_ids = starting.result(timeout=120)

    def completed():
        return len(server.get("/flow?state=COMPLETED&limit=500")["flows"]) == FLOWS

    wait_for(completed, 60, "not all flows ended")
    check_histories(server, flow_ids)
    assert server.get("/flow?state=RUNNING")["flows"] == []


def test_what_a_killed_worker_held_comes_back(orchy_server, start_worker, wait_for):
    server = orchy_server().start()
    server.post("/workflow", CHAIN)
    stuck = WORKER.replace("time.sleep(0.002)", "time.sleep(1000)").replace("timeout_seconds=3", "timeout_seconds=1")
    worker = start_worker(server, stuck)
    flow_ids = start_flows(server, 5)

    def taken():
        lines = [server.get(f"/flow/{flow_id}/history")["history"][-1] for flow_id in flow_ids]
        return all(line["type"] == "handedOut" for line in lines)

    wait_for(taken)
    worker.kill()
    worker.wait()
    start_worker(server)
    wait_for(lambda: len(server.get("/flow?state=COMPLETED")["flows"]) == 5, what=str(server.get("/flow")))
    check_histories(server, flow_ids)


def test_a_stopped_worker_finishes_what_it_holds(orchy_server, start_worker, wait_for):
    server = orchy_server().start()
    server.post("/workflow", CHAIN)
    slow = WORKER.replace("time.sleep(0.002)", "time.sleep(0.7)")
    worker = start_worker(server, slow)
    (flow_id,) = start_flows(server, 1)
    wait_for(lambda: server.get(f"/flow/{flow_id}/history")["history"][-1]["type"] == "handedOut")
    worker.terminate()
    assert worker.wait(20) == 0
    assert 1 in server.get(f"/flow/{flow_id}")["completedActions"]
