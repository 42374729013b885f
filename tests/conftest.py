"""Real processes for tests marked `real`: Orchy servers on free ports, ended at the end of the test."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

START_SECONDS = 30.0
STOP_SECONDS = 30.0


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@attrs.define
class OrchyServer:
    """One `python -m orchy` with its own ports; `start` again after `kill` has the same ones."""

    flags: list[str]
    log_path: Path
    http_port: int = attrs.field(factory=free_port)
    grpc_port: int = attrs.field(factory=free_port)
    gossip_port: int = attrs.field(factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def grpc(self) -> str:
        return f"127.0.0.1:{self.grpc_port}"

    def start(self) -> OrchyServer:
        command = [sys.executable, "-m", "orchy", "--bind-addr", f"127.0.0.1:{self.gossip_port}"]
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
        request = urllib.request.Request(f"http://127.0.0.1:{self.http_port}{path}", data, method=method)
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
