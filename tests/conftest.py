"""Real processes for tests marked `real`: Valkey servers for the whole session, Orchy servers for one test."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import redis

from orchy.commands.demo.processes import free_port
from orchy.store.redis.embedded import find_binary

START_SECONDS = 30.0
SERVER_START_SECONDS = 30.0
SLOTS = 16_384
STOP_SECONDS = 30.0


@contextmanager
def run_server(folder: Path, *, cluster: bool) -> Iterator[int]:
    """A Valkey on a loopback port, without persistence; stopped at the end."""
    port = free_port()
    command = [str(find_binary()), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    if cluster:
        command += ["--cluster-enabled", "yes", "--cluster-config-file", f"nodes-{port}.conf"]
    with (folder / f"server-{port}.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        try:
            with redis.Redis(port=port) as client:
                wait_until(lambda: answers(client), server)
            yield port
        finally:
            server.terminate()
            server.wait(SERVER_START_SECONDS)


def answers(client: redis.Redis) -> bool:
    """Whether the server is up."""
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def wait_until(condition: Callable[[], bool], server: subprocess.Popen[bytes] | None = None) -> None:
    """Poll until it holds."""
    give_up_at = time.monotonic() + SERVER_START_SECONDS
    while not condition():
        assert server is None or server.poll() is None, "the server ended at once"
        assert time.monotonic() < give_up_at, "the server was not ready in time"
        time.sleep(0.02)


@pytest.fixture(scope="session")
def valkey_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A standalone server."""
    with run_server(tmp_path_factory.mktemp("valkey"), cluster=False) as port:
        yield port


@pytest.fixture(scope="session")
def cluster_ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[int]]:
    """Three masters that share the slots."""
    with ExitStack() as stack:
        folder = tmp_path_factory.mktemp("cluster")
        ports = [stack.enter_context(run_server(folder, cluster=True)) for _ in range(3)]
        clients = [stack.enter_context(redis.Redis(port=port)) for port in ports]
        bounds = [SLOTS * number // 3 for number in range(4)]
        for number, client in enumerate(clients):
            client.execute_command("CLUSTER ADDSLOTSRANGE", bounds[number], bounds[number + 1] - 1)
            client.execute_command("CLUSTER MEET", "127.0.0.1", ports[0])

        def formed() -> bool:
            infos = [client.execute_command("CLUSTER INFO") for client in clients]
            return all(info["cluster_state"] == "ok" and info["cluster_known_nodes"] == "3" for info in infos)

        wait_until(formed)
        yield ports


@attrs.define
class OrchyServer:
    """One `python -m orchy` with its own ports; `start` again after `kill` has the same ones."""

    flags: list[str]
    log_path: Path
    http_port: int = attrs.field(factory=free_port)
    grpc_port: int = attrs.field(factory=free_port)
    gossip_port: int = attrs.field(factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    program: tuple[str, ...] = ("-m", "orchy")

    @property
    def grpc(self) -> str:
        return f"127.0.0.1:{self.grpc_port}"

    def start(self) -> OrchyServer:
        command = [sys.executable, *self.program, "--bind-addr", f"127.0.0.1:{self.gossip_port}"]
        command += ["--http-port", str(self.http_port), "--grpc-port", str(self.grpc_port), *self.flags]
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        give_up_at = time.monotonic() + START_SECONDS
        while True:
            try:
                self.get("/health/ready")
                return self
            except (OSError, RuntimeError):
                assert self.process.poll() is None, self.log_path.read_text()
                assert time.monotonic() < give_up_at, self.log_path.read_text()
                time.sleep(0.03)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_SECONDS)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON of an answer. Raises RuntimeError with the sentence of an error, OSError when nobody is there."""
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        headers = {} if data is None else {"Content-Type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.http_port}{path}", data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{error.code} {error.read().decode()}") from None
        except http.client.HTTPException as error:  # it died in the middle of an answer
            raise ConnectionError(str(error)) from None

    def get(self, path: str) -> Any:
        return self.call("GET", path)

    def post(self, path: str, body: Any) -> Any:
        return self.call("POST", path, body)


@pytest.fixture
def orchy_server(tmp_path: Path) -> Iterator[Callable[..., OrchyServer]]:
    """Makes servers, each with a data directory of its own unless the flags say otherwise, and ends them."""
    servers: list[OrchyServer] = []

    def make(*flags: str) -> OrchyServer:
        number = len(servers)
        mine = list(flags)
        if "--data-dir" not in mine and "--redis-addr" not in mine:
            mine += ["--data-dir", str(tmp_path / f"data-{number}")]
        server = OrchyServer(mine, tmp_path / f"server-{number}.log")
        servers.append(server)
        return server

    yield make
    for server in servers:
        if server.process is not None and server.process.poll() is None:
            server.process.kill()
            server.process.wait()


@pytest.fixture
def wait_for() -> Callable[..., Any]:
    """Polls a condition until it is true, and gives its value; fails after a generous time."""

    def wait(condition: Callable[[], Any], seconds: float = 30.0, what: str = "it did not happen") -> Any:
        give_up_at = time.monotonic() + seconds
        while not (value := condition()):
            assert time.monotonic() < give_up_at, what
            time.sleep(0.02)
        return value

    return wait
