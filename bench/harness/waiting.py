"""Processes: waiting until one is ready, stopping one, and what one has used."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis

READY_SECONDS = 30.0
STOP_SECONDS = 15.0
_NOT_YET = (OSError, RuntimeError, http.client.HTTPException, redis.ConnectionError)


def wait_for(condition: Callable[[], Any], seconds: float = READY_SECONDS) -> None:
    """Poll until the condition holds; a refused connection counts as no. Raises SystemExit after `seconds`."""
    give_up_at = time.monotonic() + seconds
    while time.monotonic() < give_up_at:
        try:
            if condition():
                return
        except _NOT_YET:
            pass
        time.sleep(0.05)
    raise SystemExit("a process was not ready in time")


def stop(process: subprocess.Popen[bytes]) -> None:
    """Send SIGTERM, and SIGKILL if the process does not end in time."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def cpu_seconds(pid: int) -> float:
    """CPU time that a process has used so far, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mb(pid: int) -> float:
    """Resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024
