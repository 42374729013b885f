"""The processes of a run: a Redis, nodes, workers. They are started here, and none is left at the end."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
import redis

from orchy.commands.demo.processes import free_port
from orchy.store.redis.embedded import find_binary

ROOT = Path(__file__).parents[2]
READY_SECONDS = 40.0
STOP_SECONDS = 25.0


def wait_until(condition: Callable[[], Any], what: str, seconds: float = READY_SECONDS) -> None:
    """Poll until a condition holds. Raises RuntimeError if it does not in time."""
    give_up_at = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > give_up_at:
            raise RuntimeError(f"in {seconds:.0f} s: {what}")
        time.sleep(0.05)


@attrs.define(eq=False)
class Process:
    """A process that can be killed, stopped and started again; its output goes to a file."""

    name: str
    folder: Path
    process: subprocess.Popen[bytes] | None = None

    def launch(self, command: Sequence[str]) -> None:
        """Start it."""
        assert not self.alive

        with (self.folder / f"{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=ROOT, preexec_fn=_ignore_file_limit
            )

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process, and to no other."""
        if self.alive:
            assert self.process is not None
            self.process.send_signal(number)

    def kill(self) -> None:
        """Send SIGKILL."""
        if self.process is not None:
            self.signal(signal.SIGKILL)
            self.process.wait()

    def stop(self) -> int:
        """Send SIGTERM; returns the exit code. Raises subprocess.TimeoutExpired."""
        assert self.process is not None
        self.signal(signal.SIGTERM)
        return self.process.wait(STOP_SECONDS)

    def end(self) -> None:
        """End it, whatever its state."""
        if self.alive:
            self.signal(signal.SIGCONT)
            try:
                self.stop()
            except subprocess.TimeoutExpired:
                self.kill()


@attrs.define(eq=False)
class RedisServer(Process):
    """A Valkey with an append-only file."""

    fsync: str = "everysec"
    flags: list[str] = attrs.field(factory=list)
    port: int = attrs.field(factory=free_port)

    @property
    def address(self) -> str:
        """The --redis-addr of the nodes."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it on its data, and wait until it has loaded them."""
        data = self.folder / self.name
        data.mkdir(exist_ok=True)
        command = [str(find_binary()), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(data)]
        command += ["--appendonly", "yes", "--appendfsync", self.fsync, "--save", "", *self.flags]
        self.launch(command)
        wait_until(self.answers, f"{self.name} did not start")

    def client(self) -> redis.Redis:
        """A client of the server itself, past any proxy."""
        return redis.Redis(port=self.port, socket_timeout=5, socket_connect_timeout=5)

    def limit_files(self, file_bytes_max: int) -> None:
        """Simulate a full disk: limit the size of its files. RLIM_INFINITY: the disk is no longer full."""
        _, hard = resource.prlimit(self.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (file_bytes_max, hard))

    def answers(self) -> bool:
        """Whether it is up."""
        try:
            with self.client() as client:
                return bool(client.ping())
        except (redis.ConnectionError, redis.TimeoutError):
            return False


@attrs.define(eq=False)
class Node(Process):
    """A server whose gossip can be cut and whose wall clock can be wrong; started again it has the same ports."""

    flags: list[str] = attrs.field(factory=list)
    http_port: int = attrs.field(factory=free_port)
    grpc_port: int = attrs.field(factory=free_port)
    gossip_port: int = attrs.field(factory=free_port)

    @property
    def cut_file(self) -> Path:
        return self.folder / f"{self.name}.cut"

    @property
    def clock_file(self) -> Path:
        return self.folder / f"{self.name}.clock"

    def start(self) -> None:
        """Start it, without waiting until it is ready."""
        command = [sys.executable, "-m", "tests.faults.node", str(self.cut_file), str(self.clock_file)]
        command += ["--bind-addr", f"127.0.0.1:{self.gossip_port}", "--node-name", self.name]
        command += ["--http-port", str(self.http_port), "--grpc-port", str(self.grpc_port), *self.flags]
        self.launch(command)

    def cut(self, others: Sequence[Node], directions: Sequence[str] = ("in", "out")) -> None:
        """Cut this node's gossip off in these directions; none: let everything pass."""
        lines = [f"{direction} {other.gossip_port}\n" for other in others for direction in directions]
        _replace(self.cut_file, "".join(lines))

    def shift_clock(self, seconds: float) -> None:
        """Set the error of its wall clock."""
        _replace(self.clock_file, str(seconds))


@attrs.define(eq=False)
class WorkerProcess(Process):
    """A process that holds some workers."""

    servers: list[str] = attrs.field(factory=list)
    first: int = 0
    count: int = 5
    control_file: Path = attrs.field(default=Path())
    starts: int = 0

    def start(self) -> None:
        """Start it with a new log, so that the log of a killed process stays as it is."""
        self.starts += 1
        log = self.folder / f"{self.name}-{self.starts}.jsonl"
        command = [sys.executable, "-m", "tests.faults.workers", str(log), str(self.control_file)]
        self.launch([*command, str(self.first), str(self.count), *self.servers])


def _ignore_file_limit() -> None:
    """Let writes beyond RLIMIT_FSIZE fail, as on a full disk, rather than kill the process."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


def _replace(path: Path, text: str) -> None:
    """Write a file atomically for its readers."""
    new = path.with_suffix(path.suffix + ".new")
    new.write_text(text)
    new.replace(path)


def control_workers(path: Path, **settings: Any) -> None:
    """Tell all workers what to do with their results; see `workers`."""
    _replace(path, json.dumps(settings))


def environment_check() -> None:
    """Make all processes run the Orchy of this tree."""
    import orchy

    source = ROOT / "src"
    if source not in Path(orchy.__file__).parents:
        raise SystemExit(f"orchy is not the one of this tree: PYTHONPATH={source}")
