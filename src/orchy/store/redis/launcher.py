"""Runs the embedded server for as long as the node lives: `python launcher.py BINARY DATA_DIR SOCKET`.

Its standard input is a pipe whose other end the node holds: when that closes, whatever became of the node, the
server is told to stop, and killed if it does not. Needs nothing but the standard library, so that it starts at once.

The lock file says whose server has the data directory. While that node lives, another one is refused at once and has
touched nothing; once it is gone, its server is about to end and is waited for.
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
#: A node that is seen alive for so long has the directory; one that was just ended may still be seen for a moment.
OWNER_ALIVE_SECONDS = 0.5
#: Said on standard output once this launcher has the directory: what answers at the socket from now on is its server.
LOCKED = b"\n"
#: Nobody but the user who runs the node may read what is made here.
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
    if os.path.lexists(socket_path):  # of a server that was killed; ours to remove, now that we have the lock
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
            os.ftruncate(lock, 0)  # whoever comes next waits for the server's end
            server.terminate()
            try:
                return server.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                server.kill()
                return server.wait()
    return server.returncode


def _take_lock(data_dir: str) -> int | None:
    """The locked file's descriptor; None: another node has the directory, or ours is gone."""
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
    os.pwrite(lock, f"{pid} {_started(pid)}\n".encode(), 0)


def _owner_lives(lock: int) -> bool:
    """Whether the node in the lock file is there. A number that another process has now is told by its start."""
    pid, _, started = os.pread(lock, 100, 0).decode(errors="replace").strip().partition(" ")
    return pid.isdigit() and bool(started) and _started(int(pid)) == started


def _started(pid: int) -> str:
    """When a process was started, in the kernel's clock ticks; empty: there is none, or it is a zombie."""
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
