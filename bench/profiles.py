"""Flame graphs of the nodes, by py-spy, into bench/profiles/: `nox -s bench -- --profile NAME ...`.

py-spy looks at a process from outside a hundred times a second and stops it for that moment, so figures of such a run
are not worth publishing. It needs the right to trace another process (ptrace).
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FOLDER = Path(__file__).parent / "profiles"
RATE_HZ = 100
STARTED_SECONDS = 1.0
WRITTEN_SECONDS = 60.0

_benchmark: list[str] = []
_nodes: dict[str, int] = {}


@contextmanager
def of(benchmark: str) -> Iterator[None]:
    """Nodes that are started in the block are profiled under this name."""
    _benchmark.append(benchmark)
    try:
        yield
    finally:
        _benchmark.pop()
        _nodes.pop(benchmark, None)


@contextmanager
def watch(pid: int) -> Iterator[None]:
    """Profile a process while the block runs, if that was asked for."""
    if not _benchmark:
        yield
        return
    name = _benchmark[-1]
    number = _nodes[name] = _nodes.get(name, 0) + 1
    path = FOLDER / (f"{name}.svg" if number == 1 else f"{name}-{number}.svg")
    FOLDER.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    command = [_py_spy(), "record", "--pid", str(pid), "--rate", str(RATE_HZ), "--output", str(path)]
    recorder = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    time.sleep(STARTED_SECONDS)
    if recorder.poll() is not None:
        _complain(recorder)
    try:
        yield
    finally:
        if recorder.poll() is None:
            recorder.send_signal(signal.SIGINT)
        _, said = recorder.communicate(timeout=WRITTEN_SECONDS)
        print(f"profile: {path}" if path.exists() else f"no profile of {name} was written: {said.strip()}")


def _py_spy() -> str:
    """Beside this Python, or on the PATH. Raises SystemExit."""
    beside = Path(sys.executable).with_name("py-spy")
    found = str(beside) if beside.exists() else shutil.which("py-spy")
    if found is None:
        raise SystemExit("--profile needs py-spy: pip install py-spy, or run it by nox -s bench")
    return found


def _complain(recorder: subprocess.Popen[str]) -> None:
    _, said = recorder.communicate()
    hint = ""
    if "ermission" in said or "ptrace" in said:
        hint = "; this machine does not let one process trace another (kernel.yama.ptrace_scope, or a container"
        hint += " without CAP_SYS_PTRACE): run it as root, or allow it"
    raise SystemExit(f"py-spy could not look into the node: {said.strip()}{hint}")
