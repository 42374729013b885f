"""Workers and nodes that are killed or stalled: the attempts that they held come back within the lease."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.real

NAMESPACES = itertools.count()
LEASE_SECONDS = 5
#: The lease, and the time for a question to the worker, a scan of the timers, and a slow machine.
BACK_SECONDS = 3 * LEASE_SECONDS + 5
ONE = {"name": "one", "rootAction": 1, "actions": [{"id": 1, "type": "user", "name": "work"}]}
WORKER = """
import sys, time
from orchy.worker import Worker
worker = Worker(*sys.argv[3:], worker_id=sys.argv[1])
@worker.action("work", retry_count=2, threads=8)
def act(data):
    time.sleep(float(sys.argv[2]))
    return {"ok": True}
worker.run()
"""


@pytest.fixture
def start_worker():
    workers = []

    def start(name, seconds, *servers):
        command = [sys.executable, "-c", WORKER, name, str(seconds), *(server.grpc for server in servers)]
        workers.append(subprocess.Popen(command))
        return workers[-1]

    yield start
    for worker in workers:
        if worker.poll() is None:
            worker.kill()
            worker.wait()


def history_of(server, flow_id):
    return server.get(f"/flow/{flow_id}/history")["history"]


def types_of(server, flow_id):
    return [line["type"] for line in history_of(server, flow_id)]


def worker_of(server, flow_id):
    return [line["worker"] for line in history_of(server, flow_id) if line["type"] == "handedOut"]


def ready(server):
    return server.get("/action")["actions"] != []


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_what_a_killed_or_stalled_worker_held_is_completed_by_another(orchy_server, start_worker, wait_for, how):
    server = orchy_server("--worker-lease-seconds", str(LEASE_SECONDS)).start()
    server.post("/workflow", ONE)
    first = start_worker("first", 1_000, server)
    wait_for(lambda: ready(server))
    flow_ids = [server.post("/flow/execute", {"name": "one", "input": {}})["flowId"] for _ in range(3)]
    wait_for(lambda: all("handedOut" in types_of(server, flow_id) for flow_id in flow_ids))
    time.sleep(LEASE_SECONDS * 1.5)  # longer than a lease: it is renewed
    assert all(types_of(server, flow_id)[-1] == "handedOut" for flow_id in flow_ids)
    os.kill(first.pid, how)
    began = time.monotonic()
    start_worker("second", 0.01, server)
    for flow_id in flow_ids:
        wait_for(lambda flow_id=flow_id: server.get(f"/flow/{flow_id}")["state"] == "COMPLETED", BACK_SECONDS)
        assert types_of(server, flow_id)[-6:-1] == ["workerLost", "retry", "scheduled", "handedOut", "completed"]
        assert worker_of(server, flow_id) == ["first", "second"]
    print(f"all came back and ended within {time.monotonic() - began:.1f} s")
    if how is signal.SIGSTOP:
        os.kill(first.pid, signal.SIGCONT)


def test_without_attempts_left_the_flow_fails_because_its_worker_was_lost(orchy_server, start_worker, wait_for):
    server = orchy_server("--worker-lease-seconds", str(LEASE_SECONDS)).start()
    server.post("/workflow", ONE)
    flow_id = None
    for number in (1, 2):
        worker = start_worker(f"victim-{number}", 1_000, server)
        wait_for(lambda: ready(server))
        if flow_id is None:
            flow_id = server.post("/flow/execute", {"name": "one", "input": {}})["flowId"]
        begun = lambda number=number, flow_id=flow_id: len(worker_of(server, flow_id)) == number  # noqa: E731
        wait_for(begun, BACK_SECONDS)
        worker.kill()
        worker.wait()
    wait_for(lambda: server.get(f"/flow/{flow_id}")["state"] == "FAILED", BACK_SECONDS)
    error = server.get(f"/flow/{flow_id}")["error"]
    assert "attempt 2: Worker.Lost: the worker victim-2" in error


def test_a_worker_keeps_what_it_holds_when_the_node_that_handed_it_out_is_killed(
    orchy_server, start_worker, wait_for, valkey_port
):
    namespace = f"lost-{next(NAMESPACES)}"
    flags = ["--redis-addr", f"127.0.0.1:{valkey_port}", "--namespace", namespace, "--partitions", "8"]
    flags += ["--worker-lease-seconds", str(LEASE_SECONDS), "--gossip-profile", "fast"]
    first = orchy_server(*flags, "--node-name", "n0").start()
    others = [
        orchy_server(*flags, "--node-name", f"n{number}", "--cluster-address", f"127.0.0.1:{first.gossip_port}").start()
        for number in (1, 2)
    ]
    first.post("/workflow", ONE)
    start_worker("long", 4 * LEASE_SECONDS, first, *others)
    wait_for(lambda: ready(first))
    time.sleep(2)  # it has found all three
    flow_ids = [first.post("/flow/execute", {"name": "one", "input": {}})["flowId"] for _ in range(6)]
    wait_for(lambda: all("handedOut" in types_of(first, flow_id) for flow_id in flow_ids))
    first.kill()
    (server, _) = others
    for flow_id in flow_ids:
        wait_for(lambda flow_id=flow_id: server.get(f"/flow/{flow_id}")["state"] == "COMPLETED", 60)
        assert worker_of(server, flow_id) == ["long"]
