"""Real processes for the benchmarks: a Redis, a server, a worker; ended at the end."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from orchy.demo.processes import free_port
from orchy.store.redis.embedded import find_binary

START_SECONDS = 30.0

#: As workers in other languages do: one Push for each result, many at a time.
PLAIN = """
from orchy.worker import results
results.RESULTS_PER_CALL, results.CALLS_MAX = 1, 64
"""

WORKER = """
import sys
from orchy.worker import Worker
worker = Worker(sys.argv[1], worker_id="bench")
for name in sys.argv[2:]:
    @worker.action(name, threads=64, batch_size=64, timeout_seconds=60)
    async def nothing(data):
        return {}
worker.run()
"""


@attrs.define
class Server:
    """A server and one kept-alive connection to its REST port."""

    http_port: int
    grpc_port: int
    redis_port: int
    process: subprocess.Popen[bytes]
    connection: http.client.HTTPConnection

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON of an answer. Raises RuntimeError for an error."""
        try:
            self.connection.request(method, path, None if body is None else json.dumps(body).encode())
            response = self.connection.getresponse()
            text = response.read()
        except (OSError, http.client.HTTPException):
            self.connection.close()
            raise
        if response.status >= 400:
            raise RuntimeError(text.decode())
        return json.loads(text) if text.startswith((b"{", b"[")) else text.decode()

    def metric(self, name: str) -> float:
        """One value of /metrics."""
        for line in self.call("GET", "/metrics").splitlines():
            if line.startswith(f"{name} "):
                return float(line.split()[1])
        raise KeyError(name)

    def redis_bytes(self) -> int:
        """What Redis has allocated."""
        with socket.create_connection(("127.0.0.1", self.redis_port), 5) as connection:
            connection.sendall(b"INFO memory\r\n")
            for line in connection.makefile("rb"):
                if line.startswith(b"used_memory:"):
                    return int(line.partition(b":")[2])
        raise RuntimeError("Redis tells nothing of its memory")

    def memory_mb(self) -> float:
        """What the server's process holds in memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024

    def cpu_seconds(self) -> float:
        """What the server has used so far, user and system."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def run_redis(appendfsync: str) -> Iterator[int]:
    """A Valkey with an append-only file on a loopback port."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = [str(find_binary()), "--port", str(port), "--bind", "127.0.0.1", "--dir", folder, "--save", ""]
        command += ["--appendonly", "yes", "--appendfsync", appendfsync]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield port
        finally:
            _end(process)


@contextmanager
def run_server(redis_port: int) -> Iterator[Server]:
    """A server on that Redis, ready."""
    http_port, grpc_port, gossip_port = free_port(), free_port(), free_port()
    command = [sys.executable, "-m", "orchy", "--redis-addr", f"127.0.0.1:{redis_port}", "--log-level", "warning"]
    command += ["--http-port", str(http_port), "--grpc-port", str(grpc_port)]
    command += ["--bind-addr", f"127.0.0.1:{gossip_port}", "--node-name", "bench"]
    process = subprocess.Popen(command)
    connection = http.client.HTTPConnection("127.0.0.1", http_port, timeout=120)
    server = Server(http_port, grpc_port, redis_port, process, connection)
    try:
        _wait_for(lambda: server.call("GET", "/health/ready")["ready"])
        yield server
    finally:
        server.connection.close()
        _end(process)


@contextmanager
def run_worker(server: Server, *actions: str, plain: bool = False) -> Iterator[None]:
    """A worker whose actions do nothing, in its own process; known to the server. `plain`: a Push for each result."""
    command = [sys.executable, "-c", (PLAIN if plain else "") + WORKER, f"127.0.0.1:{server.grpc_port}", *actions]
    with _run_known(server, command, set(actions)):
        yield


@contextmanager
def run_demo_worker(server: Server) -> Iterator[None]:
    """The demo's worker, which knows the actions of the notification workflow."""
    command = [sys.executable, "-m", "orchy.demo.worker", f"127.0.0.1:{server.grpc_port}"]
    with _run_known(server, command, {"query-db", "sendSms", "sendEmail", "sendWahtsapp"}):
        yield


@contextmanager
def _run_known(server: Server, command: list[str], known: set[str]) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        _wait_for(lambda: known <= {action["name"] for action in server.call("GET", "/action")["actions"]})
        yield
    finally:
        _end(process)


def _wait_for(condition: Any) -> None:
    give_up_at = time.monotonic() + START_SECONDS
    while time.monotonic() < give_up_at:
        try:
            if condition():
                return
        except (OSError, RuntimeError, http.client.HTTPException):
            pass
        time.sleep(0.05)
    raise SystemExit("a process was not ready in time")
