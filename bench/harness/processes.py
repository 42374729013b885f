"""Nodes and workers as real processes, each stopped when its block ends."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import attrs

from bench.harness import profiles, waiting
from bench.harness.places import ROOT
from bench.harness.redis_servers import RedisServers
from bench.harness.waiting import stop, wait_for
from orchy.commands.demo.processes import free_port

PARTITIONS = 64
#: The server closes idle connections after a minute, so one that was idle for longer than this is opened anew.
IDLE_SECONDS_MAX = 30.0
#: How long the nodes of a cluster may take to distribute the partitions.
SETTLE_SECONDS = 60.0
#: Attempts that a worker holds at a time, chosen by `nox -s bench -- slots`.
SLOTS = 512

WORKER = """
import sys
import time
from orchy.worker import Worker
slots = int(sys.argv[1])
worker = Worker(*sys.argv[2].split(","), worker_id="bench")
for name in sys.argv[3:]:
    @worker.action(name, threads=slots, batch_size=100, timeout_seconds=60)
    async def nothing(data):
        return {}
worker.run()
"""


@attrs.define
class Server:
    """A node and one kept-alive connection to its REST port."""

    http_port: int
    grpc_port: int
    gossip_port: int
    redis: RedisServers
    process: subprocess.Popen[bytes]
    connection: http.client.HTTPConnection
    used_at: float = 0.0

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON of an answer. Raises RuntimeError for an error status."""
        if time.monotonic() - self.used_at > IDLE_SECONDS_MAX:
            self.connection.close()
        self.used_at = time.monotonic()
        try:
            data = None if body is None else json.dumps(body).encode()
            self.connection.request(method, path, data, {} if data is None else {"Content-Type": "application/json"})
            response = self.connection.getresponse()
            text = response.read()
        except (OSError, http.client.HTTPException):
            self.connection.close()
            raise
        if response.status >= 400:
            raise RuntimeError(text.decode())
        return json.loads(text) if text.startswith((b"{", b"[")) else text.decode()

    def metric(self, name: str) -> float:
        """One value of /metrics; 0 if it is not there yet."""
        for line in self.call("GET", "/metrics").splitlines():
            if line.startswith(f"{name} "):
                return float(line.split()[1])
        return 0.0

    def memory_mb(self) -> float:
        """Resident memory of the node's process."""
        return waiting.memory_mb(self.process.pid)

    def cpu_seconds(self) -> float:
        """CPU time that the node has used so far, user and system."""
        return waiting.cpu_seconds(self.process.pid)


@attrs.frozen
class WorkerProcess:
    """A worker's process."""

    process: subprocess.Popen[bytes]

    def cpu_seconds(self) -> float:
        """CPU time that it has used so far, user and system."""
        return waiting.cpu_seconds(self.process.pid)


@contextmanager
def run_server(redis: RedisServers, *flags: str, name: str = "bench") -> Iterator[Server]:
    """A node on this Redis, once it is ready."""
    http_port, grpc_port, gossip_port = free_port(), free_port(), free_port()
    command = [sys.executable, "-m", "orchy", "--redis-addr", redis.addresses, "--log-level", "warning"]
    command += ["--http-port", str(http_port), "--grpc-port", str(grpc_port)]
    command += ["--bind-addr", f"127.0.0.1:{gossip_port}", "--node-name", name, *flags]
    process = subprocess.Popen(command)
    connection = http.client.HTTPConnection("127.0.0.1", http_port, timeout=120)
    server = Server(http_port, grpc_port, gossip_port, redis, process, connection)
    try:
        wait_for(lambda: server.call("GET", "/health/ready")["ready"])
        with profiles.watch(process.pid):
            yield server
    finally:
        server.connection.close()
        stop(process)


@contextmanager
def run_cluster(redis: RedisServers, nodes: int, *flags: str, partitions: int = PARTITIONS) -> Iterator[list[Server]]:
    """The nodes of one cluster, once they have distributed the partitions evenly."""
    with ExitStack() as stack:
        servers: list[Server] = []
        for number in range(nodes):
            joining = [f"--cluster-address=127.0.0.1:{servers[0].gossip_port}"] if servers else []
            all_flags = [*joining, "--partitions", str(partitions), *flags]
            servers.append(stack.enter_context(run_server(redis, *all_flags, name=f"bench-{number}")))

        def balanced() -> bool:
            held = [server.metric("orchy_partitions_held") for server in servers]
            return sum(held) == partitions and max(held) - min(held) <= 1

        wait_for(balanced, SETTLE_SECONDS)
        yield servers


@contextmanager
def run_worker(servers: Server | Sequence[Server], *actions: str, slots: int = SLOTS) -> Iterator[WorkerProcess]:
    """A worker process whose actions do nothing, once the nodes know its actions."""
    servers = [servers] if isinstance(servers, Server) else servers
    addresses = ",".join(f"127.0.0.1:{server.grpc_port}" for server in servers)
    command = [sys.executable, "-c", WORKER, str(slots), addresses, *actions]
    with _run_worker_process(servers, command, set(actions)) as worker:
        yield worker


@contextmanager
def run_plain_worker(server: Server, *actions: str) -> Iterator[WorkerProcess]:
    """A worker that uses only Poll and Push, as workers in other languages do."""
    command = [sys.executable, "-m", "bench.harness.plain_worker", f"127.0.0.1:{server.grpc_port}", *actions]
    with _run_worker_process([server], command, set(actions)) as worker:
        yield worker


@contextmanager
def run_demo_worker(server: Server) -> Iterator[WorkerProcess]:
    """The demo's worker, with the actions of the notification workflow."""
    command = [sys.executable, "-m", "orchy.commands.demo.worker", f"127.0.0.1:{server.grpc_port}"]
    with _run_worker_process([server], command, {"query-db", "sendSms", "sendEmail", "sendWahtsapp"}) as worker:
        yield worker


@contextmanager
def _run_worker_process(servers: Sequence[Server], command: list[str], actions: set[str]) -> Iterator[WorkerProcess]:
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        for server in servers:
            wait_for(lambda server=server: actions <= {one["name"] for one in server.call("GET", "/action")["actions"]})
        yield WorkerProcess(process)
    finally:
        stop(process)
