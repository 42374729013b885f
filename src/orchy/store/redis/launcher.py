"""Runs the embedded server for as long as the node lives: `python launcher.py BINARY DATA_DIR SOCKET`.

Its standard input is a pipe whose other end the node holds. When that closes, for whatever reason, the server is
terminated, and killed if it does not stop. It needs nothing but the standard library, so that it starts quickly.

The lock file names the node whose server uses the data directory. While that node lives, another one is refused at once
and touches nothing; once it is gone, its server is about to end and is waited for.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import signal
import subprocess
import sys
import time

EXIT_LOCKED = 75
#: How long the server of a node that is gone may take to end.
LOCK_WAIT_SECONDS = 10.0
#: A node that is seen alive for this long has the directory; one that just ended may still be seen for a moment.
OWNER_ALIVE_SECONDS = 0.5
#: Written to standard output once this launcher has the directory: from now on its server is the one at the socket.
LOCKED = b"\n"
#: New files are for the user who runs the node only.
UMASK = 0o077
STOP_SECONDS = 8.0
_PR_SET_PDEATHSIG = 1


def main(binary: str, data_dir: str, socket_path: str) -> int:
    """The exit code: EXIT_LOCKED when another node has the directory, else the server's."""
    os.umask(UMASK)
    lock = _take_lock(data_dir)
    if lock is None:
        return EXIT_LOCKED
    _write_owner(lock, os.getppid())
    if os.path.lexists(socket_path):  # left by a server that was killed; safe to remove, as we hold the lock
        os.unlink(socket_path)
    os.write(1, LOCKED)
    server = subprocess.Popen(
        [
            binary,
            *("--port", "0"),
            *("--unixsocket", socket_path),
            *("--unixsocketperm", "700"),
            *("--dir", data_dir),
            *("--appendonly", "yes"),
            *("--appendfsync", "everysec"),
            *("--aof-load-truncated", "yes"),
            *("--save", ""),
            *("--maxmemory-policy", "noeviction"),
            *("--daemonize", "no"),
            *("--logfile", ""),
            *("--loglevel", "warning"),
        ],
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        preexec_fn=_die_with_parent,
    )
    while server.poll() is None:
        if _stdin_closed(0.2):
            os.ftruncate(lock, 0)  # a node that comes next waits for the server to end
            server.terminate()
            try:
                return server.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                server.kill()
                return server.wait()
    return server.returncode


def _take_lock(data_dir: str) -> int | None:
    """The locked file's descriptor; None if another node has the directory, or ours is gone."""
    lock = os.open(os.path.join(data_dir, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    began = time.monotonic()
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        except BlockingIOError:
            waited = time.monotonic() - began
            if waited > (OWNER_ALIVE_SECONDS if _owner_lives(lock) else LOCK_WAIT_SECONDS) or _stdin_closed(0.05):
                return None


def _write_owner(lock: int, pid: int) -> None:
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{pid} {_start_time(pid)}\n".encode(), 0)


def _owner_lives(lock: int) -> bool:
    """Whether the node in the lock file is alive. The start time tells a reused process id."""
    pid, _, started = os.pread(lock, 100, 0).decode(errors="replace").strip().partition(" ")
    return pid.isdigit() and bool(started) and _start_time(int(pid)) == started


def _start_time(pid: int) -> str:
    """When a process was started, in the kernel's clock ticks; empty if there is none, or it is a zombie."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
            state, *fields = stat.read().rpartition(") ")[2].split()
    except OSError:
        return ""
    return "" if state in "ZX" else fields[18]


def _stdin_closed(wait_seconds: float) -> bool:
    readable, _, _ = select.select([0], [], [], wait_seconds)
    return bool(readable) and not os.read(0, 1)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))
