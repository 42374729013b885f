"""Several real nodes share the work, and lose nothing when one of them stops, dies, stalls or is cut off."""

from __future__ import annotations

import collections
import itertools
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis

pytestmark = pytest.mark.real

NAMESPACES = itertools.count()
PARTITIONS = 64
CHAIN = {
    "name": "chain",
    "rootAction": 1,
    "actions": [
        {"id": 1, "type": "user", "name": "a", "next": {"default": [2]}},
        {"id": 2, "type": "system", "name": "delay", "delaySeconds": 0.2, "next": {"default": [3]}},
        {"id": 3, "type": "user", "name": "b"},
    ],
}
WORKER = """
import logging, sys
from orchy.worker import Worker
logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
worker = Worker(*sys.argv[1:])
for name in "ab":
    @worker.action(name, retry_count=3, timeout_seconds=5, threads=8)
    def act(data):
        return {"ok": True}
worker.run()
"""


@pytest.fixture
def redis_flags(valkey_port):
    return ["--redis-addr", f"127.0.0.1:{valkey_port}", "--namespace", f"cluster-{os.getpid()}-{next(NAMESPACES)}"]


@pytest.fixture
def cluster(orchy_server, redis_flags):
    """Starts this many nodes; the first one starts the cluster, the others join it."""

    def make(count, *flags, profile="fast"):
        nodes = []
        for number in range(count):
            joins = ["--cluster-address", f"127.0.0.1:{nodes[0].gossip_port}"] if nodes else []
            name = ["--node-name", f"node-{number}", "--gossip-profile", profile]
            nodes.append(orchy_server(*redis_flags, *name, *joins, *flags).start())
        return nodes

    return make


@pytest.fixture
def start_worker(tmp_path, wait_for):
    started = []

    def start(*nodes):
        log = (tmp_path / f"worker-{len(started)}.log").open("wb")
        process = subprocess.Popen([sys.executable, "-c", WORKER, *(node.grpc for node in nodes)], stderr=log)
        started.append((process, log))
        wait_for(lambda: len(nodes[0].get("/action")["actions"]) == 2)
        return Path(log.name)

    yield start
    for process, log in started:
        process.kill()
        process.wait()
        log.close()


def owners(node):
    """How many partitions each node holds; None counts those without a holder."""
    return collections.Counter(partition["owner"] for partition in node.get("/cluster")["partitions"])


def even(node, names):
    counts = owners(node)
    return set(counts) == set(names) and max(counts.values()) - min(counts.values()) <= 1


def epochs(node):
    return [partition["epoch"] for partition in node.get("/cluster")["partitions"]]


def states(node):
    return {member["name"]: member["state"] for member in node.get("/cluster")["members"]}


def start_flows(nodes, count, first=0):
    """Start flows, on one node after the other; a start that fails is repeated later, on another node."""

    def start(number):
        for node in itertools.islice(itertools.cycle(nodes), number, None):
            try:
                body = {"name": "chain", "flowId": f"flow-{number}", "input": {}}
                return node.post("/flow/execute", body)["flowId"]
            except (OSError, RuntimeError):
                time.sleep(0.05)
        raise AssertionError("never")

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(start, range(first, first + count)))


def ended(node, count):
    return len(node.get("/flow?state=COMPLETED&limit=500")["flows"]) >= count


def check_histories(node, flow_ids):
    for flow_id in flow_ids:
        lines = node.get(f"/flow/{flow_id}/history")["history"]
        completed = collections.Counter(line["actionId"] for line in lines if line["type"] == "completed")
        assert completed == {1: 1, 2: 1, 3: 1}, (flow_id, lines)


def test_three_nodes_share_the_work(cluster, start_worker, wait_for):
    nodes = cluster(3)
    wait_for(lambda: all(even(node, ["node-0", "node-1", "node-2"]) for node in nodes))
    nodes[1].post("/workflow", CHAIN)
    log = start_worker(nodes[2])  # it is given one node, and polls all
    flow_ids = start_flows(nodes, 60)
    wait_for(lambda: ended(nodes[0], 60))
    for node in nodes:
        check_histories(node, flow_ids)
    members = nodes[0].get("/cluster")["members"]
    assert [(member["name"], member["state"], member["ready"]) for member in members] == [
        (f"node-{number}", "alive", True) for number in range(3)
    ]
    assert {member["grpc"] for member in members} == {node.grpc for node in nodes}
    wait_for(lambda: any(member["roundTripMs"] for member in nodes[0].get("/cluster")["members"]))
    assert log.read_text() == ""


def test_a_second_terminal_joins_the_embedded_store(orchy_server, wait_for):
    first = orchy_server("--node-name", "node1").start()
    second = orchy_server("--node-name", "node2", "--cluster-address", f"127.0.0.1:{first.gossip_port}").start()
    wait_for(lambda: even(first, ["node1", "node2"]))
    first.post("/workflow", CHAIN)
    assert second.get("/workflow/chain")["version"] == 1
    first.kill()
    first.start()  # the store is back at the same place
    wait_for(lambda: even(second, ["node1", "node2"]), 60)


def test_nodes_of_one_store_find_each_other(orchy_server, redis_flags, wait_for):
    nodes = [orchy_server(*redis_flags, "--node-name", name).start() for name in ("a", "b")]
    wait_for(lambda: all(even(node, ["a", "b"]) for node in nodes))


def test_settings_that_the_store_lost_are_restored(cluster, redis_flags, orchy_server, valkey_port, wait_for):
    (first,) = cluster(1)
    key = f"{{{redis_flags[-1]}}}:settings"
    with redis.Redis(port=valkey_port) as client:
        identity = client.hget(key, "identity")
        assert identity
        client.delete(key)
        wait_for(lambda: client.hget(key, "identity") == identity)
    join = ["--cluster-address", f"127.0.0.1:{first.gossip_port}"]
    second = orchy_server(*redis_flags, *join, "--node-name", "second").start()
    wait_for(lambda: even(second, ["node-0", "second"]))


def test_another_store_is_refused(cluster, orchy_server, redis_flags):
    (first,) = cluster(1)
    join = ["--cluster-address", f"127.0.0.1:{first.gossip_port}", "--node-name", "b"]
    own = orchy_server(*join, "--namespace", redis_flags[-1])
    own.start()  # it asks where the store is, and is answered
    assert own.stop() == 0
    other = [*redis_flags[:-1], redis_flags[-1] + "-other"]
    said = refused(orchy_server(*other, *join), 2)  # the same Redis, but another namespace
    assert "--namespace" in said
    assert states(first)["b"] == "left"


def test_flows_go_on_when_a_node_is_killed(cluster, start_worker, wait_for):
    nodes = cluster(3)
    wait_for(lambda: even(nodes[0], ["node-0", "node-1", "node-2"]))
    nodes[0].post("/workflow", CHAIN)
    log = start_worker(nodes[0], nodes[2])
    before = epochs(nodes[0])
    with ThreadPoolExecutor(1) as background:
        starting = background.submit(start_flows, nodes[:2], 200)
        time.sleep(0.5)
        nodes[2].kill()
        wait_for(lambda: even(nodes[0], ["node-0", "node-1"]))
        flow_ids = starting.result(60)
    wait_for(lambda: ended(nodes[1], 200))
    check_histories(nodes[1], flow_ids)
    assert states(nodes[0])["node-2"] == "dead"
    assert all(new >= old for new, old in zip(epochs(nodes[0]), before, strict=True))
    assert "ERROR" not in log.read_text()
    nodes[2].start()  # with its old name and addresses
    wait_for(lambda: all(even(node, ["node-0", "node-1", "node-2"]) for node in nodes))


def test_the_death_of_a_killed_node_is_known_at_once(cluster, start_worker, wait_for):
    """No suspicion or lease has to expire first; by default, a killed node's leases last another 7.5 to 10 s."""
    nodes = cluster(3, profile="default")
    wait_for(lambda: all(even(node, ["node-0", "node-1", "node-2"]) for node in nodes))
    nodes[0].post("/workflow", CHAIN)
    start_worker(*nodes[:2])
    with ThreadPoolExecutor(1) as background:
        starting = background.submit(start_flows, nodes[:2], 300)
        time.sleep(0.3)
        nodes[2].kill()
        killed = time.monotonic()
        wait_for(lambda: even(nodes[0], ["node-0", "node-1"]))
        took_seconds = time.monotonic() - killed
        starting.result(60)
    assert took_seconds < 5  # 0.7 s on an idle machine; 8.7 to 10.4 s without evidence
    for node in nodes[:2]:
        assert states(node)["node-2"] == "dead"
        said = node.log_path.read_text()
        assert "its host says that nothing listens" in said
        assert "is suspected" not in said
    wait_for(lambda: ended(nodes[0], 300))
    nodes[2].start()  # with its old name and addresses
    wait_for(lambda: all(even(node, ["node-0", "node-1", "node-2"]) for node in nodes))


def test_a_node_that_stops_hands_its_partitions_over(cluster, start_worker, wait_for):
    nodes = cluster(3)
    wait_for(lambda: even(nodes[0], ["node-0", "node-1", "node-2"]))
    nodes[0].post("/workflow", CHAIN)
    log = start_worker(*nodes)
    with ThreadPoolExecutor(1) as background:
        starting = background.submit(start_flows, nodes[:2], 100)
        time.sleep(0.3)
        assert nodes[2].stop() == 0
        assert owners(nodes[0])["node-2"] == 0
        flow_ids = starting.result(60)
    wait_for(lambda: ended(nodes[1], 100))
    check_histories(nodes[1], flow_ids)
    wait_for(lambda: even(nodes[0], ["node-0", "node-1"]))
    assert states(nodes[0])["node-2"] == "left"
    assert "ERROR" not in log.read_text()


def test_a_stalled_node_comes_back(cluster, start_worker, wait_for):
    nodes = cluster(3)
    wait_for(lambda: even(nodes[0], ["node-0", "node-1", "node-2"]))
    nodes[0].post("/workflow", CHAIN)
    start_worker(nodes[0], nodes[1])
    before = epochs(nodes[0])
    nodes[2].process.send_signal(signal.SIGSTOP)
    try:
        flow_ids = start_flows(nodes[:2], 60)
        wait_for(lambda: even(nodes[0], ["node-0", "node-1"]))
        wait_for(lambda: ended(nodes[1], 60))
    finally:
        nodes[2].process.send_signal(signal.SIGCONT)
    wait_for(lambda: all(even(node, ["node-0", "node-1", "node-2"]) for node in nodes))
    flow_ids += start_flows(nodes, 60, first=60)
    wait_for(lambda: ended(nodes[2], 120))
    check_histories(nodes[2], flow_ids)
    assert all(new >= old for new, old in zip(epochs(nodes[0]), before, strict=True))


@pytest.mark.parametrize("directions", [("in", "out"), ("in",), ("out",)], ids=["both ways", "not in", "not out"])
def test_nodes_that_are_cut_off_from_each_other_go_on(
    cluster, start_worker, wait_for, tmp_path, monkeypatch, directions
):
    cut_files = []
    popen = subprocess.Popen

    def start_cuttable(command, *args, **kwargs):
        if command[1:3] == ["-m", "orchy"] and "demo" not in command:
            node = command[command.index("--node-name") + 1]
            cut_files.append(tmp_path / f"{node}.cut")
            command = [command[0], str(Path(__file__).with_name("cuttable_node.py")), str(cut_files[-1]), *command[3:]]
        return popen(command, *args, **kwargs)

    monkeypatch.setattr(subprocess, "Popen", start_cuttable)
    nodes = cluster(4)
    names = [f"node-{number}" for number in range(4)]
    wait_for(lambda: all(even(node, names) for node in nodes))
    nodes[0].post("/workflow", CHAIN)
    start_worker(nodes[0], nodes[2])
    before = epochs(nodes[0])
    for node, file in list(zip(nodes, cut_files, strict=True))[:2]:
        lines = [f"{direction} {other.gossip_port}\n" for other in nodes[2:] for direction in directions]
        assert node
        file.write_text("".join(lines))
    flow_ids = start_flows(nodes, 40)
    wait_for(lambda: "dead" in states(nodes[0]).values() or "dead" in states(nodes[3]).values(), 60)
    flow_ids += start_flows(nodes, 40, first=40)
    wait_for(lambda: ended(nodes[0], 80), 60)
    for file in cut_files:
        file.write_text("")
    wait_for(lambda: all(set(states(node).values()) == {"alive"} for node in nodes), 60)
    wait_for(lambda: all(even(node, names) for node in nodes), 60)
    check_histories(nodes[0], flow_ids)
    assert all(new >= old for new, old in zip(epochs(nodes[0]), before, strict=True))


def refused(server, code):
    with pytest.raises(AssertionError) as caught:
        server.start()
    assert server.process.wait(10) == code
    assert "Traceback" not in str(caught.value)
    return server.log_path.read_text()


def test_nodes_that_do_not_fit_are_refused(orchy_server, redis_flags, cluster):
    (first,) = cluster(1)
    join = ["--cluster-address", f"127.0.0.1:{first.gossip_port}"]
    said = refused(orchy_server(*redis_flags, *join, "--node-name", "node-0"), 1)
    assert "there is a live node named node-0 already" in said
    said = refused(orchy_server(*redis_flags, "--node-name", "node-0"), 1)  # the store knows the name
    assert "there is a live node named node-0 already" in said
    said = refused(orchy_server(*redis_flags, *join, "--node-name", "b", "--partitions", "32"), 2)
    assert "64 partitions" in said
    assert "told 32" in said
    said = refused(orchy_server(*redis_flags, "--node-name", "b", "--partitions", "32"), 2)
    assert "64 partitions" in said
    assert "32" in said
    said = refused(orchy_server(*join, "--node-name", "b", "--namespace", "other"), 2)
    assert "--namespace" in said
    key = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
    said = refused(orchy_server(*redis_flags, *join, "--node-name", "b", "--gossip-key", key), 1)
    assert "--gossip-key" in said
    said = refused(orchy_server("--bind-addr", f"127.0.0.1:{first.gossip_port}"), 1)
    assert "--bind-addr" in said


def test_nodes_with_the_same_key_form_a_cluster(cluster, wait_for):
    key = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
    nodes = cluster(2, "--gossip-key", key)
    wait_for(lambda: all(even(node, ["node-0", "node-1"]) for node in nodes))
