"""A real node under attack, and a client that uses it meanwhile.

An attack gets a `Target` and returns what it saw in a few words; it raises AssertionError if the node breaks a promise.
Meanwhile other clients make ordinary requests, one after the other. How long each of them waits, and how much memory
the node takes, is measured here in the same way for all attacks.
"""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

from tests.conftest import OrchyServer

#: Between two requests of the other clients.
PAUSE_SECONDS = 0.02
#: A request without an answer by then counts as one that took this long.
REQUEST_SECONDS_MAX = 30.0
#: Between two measurements of the memory.
MEMORY_SECONDS = 0.05


@attrs.frozen
class Attack:
    """`waits_seconds_max` bounds how long others wait, `memory_mb_max` how much the node grows.

    `slow`: too slow for the test suite. `program`: run instead of `-m orchy`.
    """

    name: str
    what: str
    run: Callable[[Target], str]
    nodes: int = 1
    flags: tuple[str, ...] = ()
    waits_seconds_max: float = 1.0
    memory_mb_max: float = 100.0
    slow: bool = False
    program: tuple[str, ...] = ("-m", "orchy")

    @property
    def bound(self) -> str:
        """The bounds, for the table."""
        return f"lives; others wait <= {self.waits_seconds_max * 1000:.0f} ms; <= {self.memory_mb_max:.0f} MB more"


@attrs.frozen
class Observed:
    """The result of an attack."""

    said: str
    longest_seconds: float
    usual_seconds: float
    grown_mb: float
    requests: int
    alive: bool

    @property
    def shown(self) -> str:
        """The result, for the table."""
        life = "" if self.alive else "THE NODE ENDED; "
        return f"{life}{self.said}; others waited <= {self.longest_seconds * 1000:.0f} ms; {self.grown_mb:+.0f} MB"


@attrs.frozen
class Target:
    """The nodes under attack, of which the first is measured. `folder` is for files of the attack."""

    nodes: list[OrchyServer]
    folder: Path

    @property
    def node(self) -> OrchyServer:
        """The node that is measured."""
        return self.nodes[0]

    @property
    def log(self) -> str:
        """What the first node has logged so far."""
        return self.node.log_path.read_text(errors="replace")


ATTACKS: dict[str, Attack] = {}


def attack(
    what: str,
    *,
    nodes: int = 1,
    flags: tuple[str, ...] = (),
    waits_seconds_max: float = 1.0,
    memory_mb_max: float = 100.0,
    slow: bool = False,
    program: tuple[str, ...] = ("-m", "orchy"),
) -> Callable[[Callable[[Target], str]], Callable[[Target], str]]:
    """Register a function as an attack of its name; `what` describes it in the table."""

    def register(run: Callable[[Target], str]) -> Callable[[Target], str]:
        name = run.__name__.replace("_", "-")
        assert name not in ATTACKS, f"there are two attacks named {name}"
        ATTACKS[name] = Attack(name, what, run, nodes, flags, waits_seconds_max, memory_mb_max, slow, program)
        return run

    return register


def observe(one: Attack, folder: Path) -> Observed:
    """Start the nodes, attack and measure; always ends the nodes."""
    with _running(one, folder) as nodes:
        target = Target(nodes, folder)
        usual = [_request(target.node) for _ in range(20)]
        before_mb = memory_mb(target.node)
        times, peak_mb, stop = [0.0], [before_mb], threading.Event()

        def ask() -> None:
            while not stop.wait(PAUSE_SECONDS):
                times.append(_request(target.node))

        def look() -> None:
            while not stop.wait(MEMORY_SECONDS):
                peak_mb.append(memory_mb(target.node))

        watchers = [threading.Thread(target=watch, daemon=True) for watch in (ask, look)]
        for watcher in watchers:
            watcher.start()
        try:
            said = one.run(target)
        finally:
            stop.set()
            for watcher in watchers:
                watcher.join(REQUEST_SECONDS_MAX + 1)
        alive = all(node.process is not None and node.process.poll() is None for node in nodes)
        if alive:
            times.append(_request(target.node))
        grown_mb = max(peak_mb) - before_mb
        return Observed(said, max(times), sorted(usual)[len(usual) // 2], grown_mb, len(times) - 1, alive)


@contextmanager
def _running(one: Attack, folder: Path) -> Iterator[list[OrchyServer]]:
    nodes: list[OrchyServer] = []
    try:
        for number in range(one.nodes):
            flags = [*one.flags, "--node-name", f"node-{number}"]
            if number:
                flags += ["--cluster-address", f"127.0.0.1:{nodes[0].gossip_port}"]
            else:
                flags += ["--data-dir", str(folder / "data")]
            nodes.append(OrchyServer(flags, folder / f"node-{number}.log", program=one.program))
            nodes[-1].start()
        yield nodes
    finally:
        for node in reversed(nodes):
            if node.process is not None and node.process.poll() is None:
                node.kill()


def _request(node: OrchyServer) -> float:
    """How long an ordinary request takes, in seconds; REQUEST_SECONDS_MAX if it fails."""
    began = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", node.http_port, timeout=REQUEST_SECONDS_MAX)
    try:
        connection.request("GET", "/health/live")
        response = connection.getresponse()
        response.read()
        return time.monotonic() - began if response.status == 200 else REQUEST_SECONDS_MAX
    except (OSError, http.client.HTTPException):
        return REQUEST_SECONDS_MAX
    finally:
        connection.close()


def memory_mb(node: OrchyServer) -> float:
    """Resident memory in MiB of the node and of the processes that run its scripts, without its embedded store."""
    assert node.process is not None
    return sum(_resident_mb(pid) for pid in _family(node.process.pid))


def _family(pid: int) -> Iterator[int]:
    yield pid
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return
    for child in map(int, children):
        try:
            is_store = b"launcher.py" in Path(f"/proc/{child}/cmdline").read_bytes()
        except OSError:
            continue
        if not is_store:
            yield from _family(child)


def _resident_mb(pid: int) -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    resident = status.partition("VmRSS:")[2].split()
    return int(resident[0]) / 1024 if resident else 0.0
