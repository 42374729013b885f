"""Streams on real nodes: gRPC's own client can use them, workers serve all nodes, and a stop loses nothing."""

from __future__ import annotations

import itertools
import os
import queue
import signal
import statistics
import subprocess
import sys
import time

import grpc
import pytest

from orchy.rpc.generated import action_service_pb2 as pb

pytestmark = pytest.mark.real

NAMESPACES = itertools.count()
TWO = {
    "name": "two",
    "rootAction": 1,
    "actions": [
        {"id": 1, "type": "user", "name": "first", "next": {"default": [2]}},
        {"id": 2, "type": "user", "name": "second"},
    ],
}
WORKER = """
import sys, time
from orchy.worker import Worker
worker = Worker(*sys.argv[2:])
for name in ("first", "second"):
    @worker.action(name, retry_count=3, timeout_seconds=60, threads=int(sys.argv[1]))
    def act(data):
        time.sleep(0.02)
        return {"ok": True}
worker.run()
"""


class Stream:
    """A worker's stream on grpcio."""

    def __init__(self, channel):
        self._said = queue.Queue()
        self._numbers = itertools.count(1)
        call = channel.stream_stream(
            "/ActionService/Work", pb.WorkerMessage.SerializeToString, pb.ServerMessage.FromString
        )
        self.call = call(iter(self._said.get, None), timeout=60)
        self.actions, self.taken, self.extended, self.goodbye = [], [], [], False

    def say(self, **fields):
        number = next(self._numbers)
        self._said.put(pb.WorkerMessage(number=number, workerId="foreign", **fields))
        return number

    def end(self):
        self._said.put(None)

    def until(self, condition):
        while not condition():
            message = next(self.call)
            self.actions += message.actions
            self.taken += message.taken
            self.extended += message.extended
            self.goodbye |= message.goodbye


@pytest.fixture
def server(orchy_server):
    server = orchy_server().start()
    server.post("/workflow", TWO)
    return server


@pytest.fixture
def stream(server):
    with grpc.insecure_channel(server.grpc) as channel:
        yield Stream(channel)


def start(server, count=1):
    answers = server.post("/flow/execute", [{"name": "two", "input": {}} for _ in range(count)])
    return [answer["flowId"] for answer in answers]


def result_for(action):
    return pb.ActionResult(flowId=action.flowId, actionId=action.actionId, retryCount=action.retryCount)


def test_grpcio_completes_flows_on_one_stream(server, stream):
    stream.say(credits=[pb.Credit(actionName=name, count=2) for name in ("first", "second")])
    flow_ids = start(server, 5)
    done = 0
    while done < 10:
        stream.until(lambda: len(stream.actions) > done)  # noqa: B023
        new, done = stream.actions[done:], len(stream.actions)
        assert len(new) <= 4
        number = stream.say(
            results=[result_for(action) for action in new],
            credits=[pb.Credit(actionName=action.actionName, count=1) for action in new],
        )
        stream.until(lambda: any(taken.number == number for taken in stream.taken))  # noqa: B023
        assert all(outcome.status for outcome in stream.taken[-1].outcomes)
    assert {server.get(f"/flow/{flow_id}")["state"] for flow_id in flow_ids} == {"COMPLETED"}
    stream.say(goodbye=True)
    stream.until(lambda: stream.goodbye)
    stream.end()
    assert list(stream.call) == []
    assert stream.call.code() is grpc.StatusCode.OK


def test_grpcio_extends_attempts_and_gets_errors(server, stream):
    stream.say(credits=[pb.Credit(actionName="first", count=1)])
    (flow_id,) = start(server)
    stream.until(lambda: stream.actions)
    attempts = [pb.Attempt(flowId=flow_id, actionId=1, retryCount=attempt) for attempt in (1, 7)]
    number = stream.say(extend=attempts)
    stream.until(lambda: stream.extended)
    assert [(one.number, list(one.extended)) for one in stream.extended] == [(number, [True, False])]
    stream.say(credits=[pb.Credit(actionName="first", count=1_000_000)])
    with pytest.raises(grpc.RpcError) as caught:
        stream.until(lambda: False)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "10000" in caught.value.details()


def test_a_server_that_stops_says_goodbye_on_streams(server, stream):
    stream.say(credits=[pb.Credit(actionName="first", count=1)])
    start(server)
    stream.until(lambda: stream.actions)
    server.process.send_signal(signal.SIGTERM)
    stream.until(lambda: stream.goodbye)
    assert list(stream.call) == []
    assert stream.call.code() is grpc.StatusCode.OK
    assert server.process.wait(30) == 0


# The library, with several nodes.


@pytest.fixture
def cluster(orchy_server, valkey_port):
    redis = ["--redis-addr", f"127.0.0.1:{valkey_port}", "--namespace", f"streams-{os.getpid()}-{next(NAMESPACES)}"]
    nodes = []
    for number in range(3):
        joins = ["--cluster-address", f"127.0.0.1:{nodes[0].gossip_port}"] if nodes else []
        nodes.append(orchy_server(*redis, "--node-name", f"n{number}", "--gossip-profile", "fast", *joins).start())
    nodes[0].post("/workflow", TWO)
    return nodes


@pytest.fixture
def start_worker(cluster, wait_for):
    started = []

    def start(threads, *nodes):
        command = [sys.executable, "-c", WORKER, str(threads), *(node.grpc for node in nodes or cluster)]
        process = subprocess.Popen(command)
        started.append(process)
        wait_for(lambda: all(streams_of(node) >= len(started) for node in cluster))
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def streams_of(node):
    import urllib.request

    with urllib.request.urlopen(f"http://127.0.0.1:{node.http_port}/metrics", timeout=10) as response:
        (line,) = [line for line in response.read().decode().splitlines() if line.startswith("orchy_worker_streams ")]
    return float(line.split()[1])


def history_of(node, flow_id):
    return node.get(f"/flow/{flow_id}/history")["history"]


def wait_completed(wait_for, node, flow_ids):
    wait_for(lambda: all(node.get(f"/flow/{flow_id}")["state"] == "COMPLETED" for flow_id in flow_ids), seconds=60)


def test_a_worker_serves_all_nodes_even_with_fewer_threads_than_nodes(cluster, start_worker, wait_for):
    start_worker(2, cluster[0])
    seconds = []
    for _ in range(8):
        for node in cluster:  # one at a time, so that the latency is measured and not the work
            (flow_id,) = start(node)
            began = time.monotonic()
            wait_completed(wait_for, node, [flow_id])
            seconds.append(time.monotonic() - began)
    assert statistics.median(seconds) < 0.5
    assert max(seconds) < 5
    flow_ids = [flow_id for node in cluster for flow_id in start(node, 30)]
    wait_completed(wait_for, cluster[0], flow_ids)


def test_a_worker_that_stops_leaves_nothing_unfinished(cluster, start_worker, wait_for):
    first = start_worker(8, cluster[0])
    start_worker(8, cluster[0])
    flow_ids = [flow_id for node in cluster for flow_id in start(node, 100)]
    first.send_signal(signal.SIGTERM)
    assert first.wait(30) == 0
    wait_completed(wait_for, cluster[0], flow_ids)
    types = {line["type"] for flow_id in flow_ids for line in history_of(cluster[0], flow_id)}
    assert "timedOut" not in types


def test_a_node_that_stops_leaves_nothing_unfinished(cluster, start_worker, wait_for):
    start_worker(8, cluster[0])
    start_worker(8, cluster[1])
    flow_ids = [flow_id for node in cluster for flow_id in start(node, 100)]
    assert cluster[2].stop() == 0
    wait_completed(wait_for, cluster[0], flow_ids)
    types = {line["type"] for flow_id in flow_ids for line in history_of(cluster[0], flow_id)}
    assert "timedOut" not in types
