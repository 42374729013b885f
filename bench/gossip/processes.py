"""Real members on loopback: how soon a stopped and a killed one are noticed, and the CPU time of a quiet one."""

from __future__ import annotations

import json
import queue
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import attrs

from bench.harness.places import ROOT
from orchy.commands.demo.processes import free_port
from orchy.swim.udp import boottime

JOIN_SECONDS = 60.0
NOTICE_SECONDS = 120.0


@attrs.define
class Member:
    """A member's process."""

    name: str
    port: int
    process: subprocess.Popen[str]

    def cpu_seconds(self) -> float:
        """CPU time that it has used so far, user and system."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100


@attrs.frozen
class Measured:
    """Seconds until a stopped (SIGSTOP) and a killed member were noticed, and the share of a core of a quiet one.

    A stopped process stands for a host that has lost its power: nothing reports that it is gone.
    """

    stopped_seconds: list[float]
    killed_seconds: list[float]
    core: float


def measure(members: int, profile: str, times: int, quiet_seconds: float, seed: int = 1) -> Measured:
    """Start the members, measure them while they are quiet, then stop or kill one at a time and start it again."""
    choose = random.Random(seed)
    events: queue.Queue[tuple[str, dict[str, object]]] = queue.Queue()
    with ExitStack() as stack:

        def start(name: str, port: int, seeds: list[int]) -> Member:
            command = [sys.executable, "-m", "bench.gossip.member", name, profile, str(port), *map(str, seeds)]
            process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
            stack.callback(_end, process)

            def read() -> None:
                assert process.stdout is not None
                for line in process.stdout:
                    events.put((name, json.loads(line)))

            threading.Thread(target=read, daemon=True).start()
            return Member(name, port, process)

        ports = [free_port() for _ in range(members)]
        cluster = [start(f"m{number}", port, ports[:1] if number else []) for number, port in enumerate(ports)]
        _await_joins(events, members * (members - 1))
        time.sleep(3)
        before, began = sum(member.cpu_seconds() for member in cluster), time.monotonic()
        time.sleep(quiet_seconds)
        core = (sum(member.cpu_seconds() for member in cluster) - before) / members / (time.monotonic() - began)
        seconds: dict[signal.Signals, list[float]] = {signal.SIGSTOP: [], signal.SIGKILL: []}
        for how in list(seconds) * times:
            number = choose.randrange(1, members)
            victim = cluster[number]
            time.sleep(choose.random() * 2)
            ended_at = boottime()
            victim.process.send_signal(how)
            seconds[how].append(_await_death(events, victim.name) - ended_at)
            victim.process.kill()
            victim.process.wait()
            time.sleep(2)
            cluster[number] = start(victim.name, victim.port, ports[:1])
            _await_joins(events, members - 1 + members - 1)
    return Measured(seconds[signal.SIGSTOP], seconds[signal.SIGKILL], core)


def _await_joins(events: queue.Queue[tuple[str, dict[str, object]]], count: int) -> None:
    deadline = time.monotonic() + JOIN_SECONDS
    while count:
        _, line = events.get(timeout=max(0.01, deadline - time.monotonic()))
        count -= line["event"] == "Joined"


def _await_death(events: queue.Queue[tuple[str, dict[str, object]]], name: str) -> float:
    deadline = time.monotonic() + NOTICE_SECONDS
    while True:
        _, line = events.get(timeout=max(0.01, deadline - time.monotonic()))
        if line["event"] == "Died":
            assert line["member"] == name, f"{line['member']} was declared dead, and lives"
            at = line["at"]
            assert isinstance(at, float)
            return at


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
