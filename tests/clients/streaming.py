"""A worker on streams against three nodes, of which the one that it is connected to is killed in the middle of work.

The worker is given the address of one node and finds the others; whatever is killed, each flow comes to its end, and
what the worker held was run once.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from tests.certificates import make_certificate
from tests.conftest import OrchyServer, run_server

LEASE_SECONDS = 5
#: More than two leases, and more than one timeout of the action.
SLOW_SECONDS = 12
WAIT_SECONDS = 60.0
FLOWS = 40
#: About as much as an action may get: as a message, more than the 4 MiB that most gRPC libraries take if nobody tells
#: them otherwise.
LARGE = {"text": "x" * 3_700_000, "numbers": [0] * 60_000}


def _user(action_id: int, name: str, parameters: dict[str, Any], *following: int) -> dict[str, Any]:
    return {
        "id": action_id,
        "type": "user",
        "name": name,
        "parameters": parameters,
        "next": {"default": list(following)} if following else {},
    }


N = {"n": "{$.input.n}"}
WORKFLOWS = [
    {
        "name": "sums",
        "rootAction": 1,
        "actions": [
            _user(1, "add", N, 2, 3),
            _user(2, "add", {"n": "{$.1.output.n}"}, 4),
            _user(3, "add", {"n": "{$.1.output.n}"}, 4),
            _user(4, "add", {"n": "{$.2.output.n}"}),
        ],
    },
    {
        "name": "long",
        "rootAction": 1,
        "actions": [
            _user(1, "slow", {"seconds": "{$.input.seconds}"}, 2),
            _user(2, "add", {"n": "{$.1.output.attempt}"}),
        ],
    },
    *(
        {"name": name, "rootAction": 1, "actions": [_user(1, name, {"it": "{$.input.it}"})]}
        for name in ("echo", "fail", "nan")
    ),
]


@attrs.define
class Cluster:
    """Nodes that share a Valkey; answers come from whichever lives."""

    nodes: list[OrchyServer]

    @property
    def alive(self) -> OrchyServer:
        """Some node that runs."""
        return next(node for node in self.nodes if node.process is not None and node.process.poll() is None)

    def start(self, name: str, inputs: list[Any]) -> list[str]:
        """Start flows of a workflow."""
        answers = self.alive.post("/flow/execute", [{"name": name, "input": item} for item in inputs])
        return [answer["flowId"] for answer in answers]

    def flow(self, flow_id: str) -> Any:
        """What is known of a flow."""
        return self.alive.get(f"/flow/{flow_id}")

    def types(self, flow_id: str, action_id: int) -> Counter[str]:
        """How often the history of a flow has what, of one action."""
        history = self.alive.get(f"/flow/{flow_id}/history")["history"]
        return Counter(line["type"] for line in history if line.get("actionId") == action_id)

    def end_of(self, flow_id: str, state: str = "COMPLETED") -> Any:
        """A flow at its end."""
        until(lambda: self.flow(flow_id)["state"] in ("COMPLETED", "FAILED"), f"flow {flow_id} to end")
        flow = self.flow(flow_id)
        assert flow["state"] == state, json.dumps(flow)[:2000]
        return flow


def until(condition: Callable[[], Any], what: str) -> None:
    """Look until it holds."""
    give_up_at = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < give_up_at, f"waited in vain for {what}"
        time.sleep(0.1)


@contextmanager
def open_cluster(folder: Path, lease_seconds: float = LEASE_SECONDS) -> Iterator[Cluster]:
    """Three nodes, and the Valkey behind them."""
    with run_server(folder, cluster=False) as port:
        flags = ["--redis-addr", f"127.0.0.1:{port}", "--partitions", "16", "--gossip-profile", "fast"]
        flags += ["--worker-lease-seconds", str(lease_seconds)]
        nodes: list[OrchyServer] = []
        try:
            for number in range(3):
                joins = ["--cluster-address", f"127.0.0.1:{nodes[0].gossip_port}"] if nodes else []
                name = ["--node-name", f"n{number}"]
                nodes.append(OrchyServer([*flags, *name, *joins], folder / f"node-{number}.log").start())
            for workflow in WORKFLOWS:
                nodes[0].post("/workflow", workflow)
            yield Cluster(nodes)
        finally:
            for node in nodes:
                if node.process is not None and node.process.poll() is None:
                    node.kill()


@attrs.define
class Worker:
    """The process of a worker, which logs "connected to HOST:PORT"."""

    process: subprocess.Popen[bytes]
    log_path: Path

    def connections(self) -> list[str]:
        """The addresses that it was connected to, in their order."""
        return re.findall(r"connected to (\S+)", self.log_path.read_text())


@contextmanager
def open_worker(command: list[str], log_path: Path) -> Iterator[Worker]:
    """A worker, killed at the end if it has not stopped."""
    with log_path.open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            yield Worker(process, log_path)
        except BaseException:
            print(log_path.read_text()[-5_000:])
            raise
        finally:
            process.kill()


def work(command: list[str], folder: Path) -> None:
    """All that a worker on streams is tried with."""
    with (
        open_cluster(folder) as cluster,
        open_worker([*command, cluster.nodes[0].grpc], folder / "worker.log") as worker,
    ):
        until(worker.connections, "a connection")
        _values(cluster)
        _kill(cluster, worker)
        _stop_a_node(cluster, worker)
        _stop_the_worker(cluster, worker)
    _tls(command, folder)


def _tls(command: list[str], folder: Path) -> None:
    """It speaks TLS; without, it can't work, and says so."""
    certificate, key = make_certificate(folder)
    flags = ["--data-dir", str(folder / "tls"), "--grpc-tls-cert", str(certificate), "--grpc-tls-key", str(key)]
    server = OrchyServer(flags, folder / "tls.log").start()
    try:
        cluster = Cluster([server])
        server.post("/workflow", WORKFLOWS[0])
        with open_worker([*command, server.grpc], folder / "plain.log") as plain:
            # Of the server's GOAWAY, which says it in words, Go's gRPC shows the name.
            until(lambda: re.search("TLS|GoAway", plain.log_path.read_text()), "a sentence on TLS")
            assert not plain.connections()
        (flow_id,) = cluster.start("sums", [{"n": 1}])
        with open_worker([*command, "-ca", str(certificate), server.grpc], folder / "secure.log"):
            cluster.end_of(flow_id)
    finally:
        server.kill()


def _values(cluster: Cluster) -> None:
    """What a result may carry, and what it may not."""
    it = {"null": None, "whole": 2**53, "part": 0.5, "lists": [[[]], {}], "text": "ä€😀"}
    small, large = cluster.start("echo", [{"it": it}, {"it": LARGE}])
    (failing,) = cluster.start("fail", [{"it": 1}])
    (nan,) = cluster.start("nan", [{"it": 1}])
    assert cluster.end_of(small)["data"]["1"]["output"] == {"it": it}
    assert cluster.end_of(large)["data"]["1"]["output"] == {"it": LARGE}
    flow = cluster.end_of(failing, "FAILED")
    assert "no such user" in flow["error"], flow
    assert cluster.types(failing, 1)["failed"] == 3, "its three attempts"
    assert "NaN" in cluster.end_of(nan, "FAILED")["error"]


def _kill(cluster: Cluster, worker: Worker) -> None:
    """The node of the worker's stream dies; what the worker holds goes on, and is told to the next node."""
    (long,) = cluster.start("long", [{"seconds": SLOW_SECONDS}])
    until(lambda: cluster.types(long, 1)["handedOut"], "the long action to begin")
    sums = cluster.start("sums", [{"n": n} for n in range(FLOWS)])
    until(lambda: cluster.flow(sums[0])["completedActions"], "the first results")
    home = worker.connections()[-1]
    dying = next(node for node in cluster.nodes if node.grpc == home)
    assert dying.process is not None
    dying.process.send_signal(signal.SIGSTOP)  # so that results are on their way to it that it will never answer
    time.sleep(0.3)
    dying.kill()
    until(lambda: worker.connections()[-1] != home, "another connection")
    for n, flow_id in enumerate(sums):
        assert cluster.end_of(flow_id)["data"]["4"]["output"] == {"n": n + 3}
        # What never arrived may be lost, and is run again. What was done is brought to another node.
        assert not any(cluster.types(flow_id, action_id)["timedOut"] for action_id in range(1, 5))
    assert cluster.end_of(long)["data"]["1"]["output"] == {"attempt": 1}
    types = cluster.types(long, 1)
    assert (types["handedOut"], types["workerLost"], types["timedOut"]) == (1, 0, 0), types


def _stop_a_node(cluster: Cluster, worker: Worker) -> None:
    """A node that is stopped well costs nothing, not even the attempts on their way."""
    home = worker.connections()[-1]
    sums = cluster.start("sums", [{"n": n} for n in range(FLOWS)])
    assert next(node for node in cluster.nodes if node.grpc == home).stop() == 0
    until(lambda: worker.connections()[-1] != home, "another connection")
    for n, flow_id in enumerate(sums):
        assert cluster.end_of(flow_id)["data"]["4"]["output"] == {"n": n + 3}
        for action_id in range(1, 5):
            types = cluster.types(flow_id, action_id)
            assert not types["workerLost"] + types["timedOut"] + types["retry"], types


def _stop_the_worker(cluster: Cluster, worker: Worker) -> None:
    """It finishes what it holds."""
    (long,) = cluster.start("long", [{"seconds": 3}])
    until(lambda: cluster.types(long, 1)["handedOut"], "the long action to begin")
    worker.process.send_signal(signal.SIGTERM)
    assert worker.process.wait(WAIT_SECONDS) == 0
    assert cluster.flow(long)["data"]["1"]["output"] == {"attempt": 1}
    types = cluster.types(long, 1)
    assert (types["handedOut"], types["givenBack"], types["workerLost"]) == (1, 0, 0), types
    (late,) = cluster.start("sums", [{"n": 1}])
    time.sleep(1)
    assert not cluster.types(late, 1)["handedOut"], "nothing is handed out to a worker that has gone"
