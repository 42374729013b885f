"""Flame graphs of the nodes, by py-spy, into bench/profiles/: `nox -s bench -- --profile NAME ...`.

py-spy samples a process from outside a hundred times a second and stops it each time, so figures of such a run are
not fit to be published. It needs permission to trace another process (ptrace).
"""

from __future__ import annotations

import html
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.harness.places import PROFILES

RATE_HZ = 100
STARTED_SECONDS = 1.0
WRITTEN_SECONDS = 60.0
TOP = 12

#: A frame of the flame graph: function, y (its depth), first sample and number of samples.
_FRAME = re.compile(r'<title>(.*?) \([\d,]+ samples?,.*?</title><rect[^>]* y="(\d+)"[^>]* fg:x="(\d+)" fg:w="(\d+)"')

_benchmark: list[str] = []
_nodes: dict[str, int] = {}


@contextmanager
def of(benchmark: str) -> Iterator[None]:
    """Profile the nodes that are started in the block, under this name."""
    _benchmark.append(benchmark)
    try:
        yield
    finally:
        _benchmark.pop()
        _nodes.pop(benchmark, None)


@contextmanager
def watch(pid: int) -> Iterator[None]:
    """Profile a process while the block runs, if it is within `of`."""
    if not _benchmark:
        yield
        return
    name = _benchmark[-1]
    number = _nodes[name] = _nodes.get(name, 0) + 1
    path = PROFILES / (f"{name}.svg" if number == 1 else f"{name}-{number}.svg")
    PROFILES.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    command = [_py_spy(), "record", "--pid", str(pid), "--rate", str(RATE_HZ), "--output", str(path)]
    recorder = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    time.sleep(STARTED_SECONDS)
    if recorder.poll() is not None:
        _refuse(recorder)
    try:
        yield
    finally:
        if recorder.poll() is None:
            recorder.send_signal(signal.SIGINT)
        _, output = recorder.communicate(timeout=WRITTEN_SECONDS)
        if path.exists():
            print(f"profile: {path}\n{_table(path)}")
        else:
            print(f"no profile of {name} was written: {output.strip()}")


def _py_spy() -> str:
    """The py-spy beside this Python, or the one on the PATH. Raises SystemExit if there is none."""
    beside = Path(sys.executable).with_name("py-spy")
    found = str(beside) if beside.exists() else shutil.which("py-spy")
    if found is None:
        raise SystemExit("--profile needs py-spy: pip install py-spy, or run it by nox -s bench")
    return found


def _table(path: Path) -> str:
    """The functions with the most samples of their own (without their callees), and their shares."""
    own: Counter[str] = Counter()
    open_frames: list[tuple[str, int, int]] = []  # function, y and end of the frames that may contain the next one
    total = 0
    frames = [(int(first), int(y), int(count), what) for what, y, first, count in _FRAME.findall(path.read_text())]
    for first, y, count, what in sorted(frames):
        while open_frames and (open_frames[-1][1] >= y or open_frames[-1][2] <= first):
            open_frames.pop()
        function = re.sub(r":\d+\)$", ")", html.unescape(what))
        own[function] += count
        if open_frames:
            own[open_frames[-1][0]] -= count
        else:
            total += count
        open_frames.append((function, y, first + count))
    return "\n".join(f"  {samples / total:6.1%}  {function}" for function, samples in own.most_common(TOP))


def _refuse(recorder: subprocess.Popen[str]) -> None:
    _, output = recorder.communicate()
    hint = ""
    if "ermission" in output or "ptrace" in output:
        hint = "; this machine does not let one process trace another (kernel.yama.ptrace_scope, or a container"
        hint += " without CAP_SYS_PTRACE): run it as root, or allow it"
    raise SystemExit(f"py-spy could not look into the node: {output.strip()}{hint}")
