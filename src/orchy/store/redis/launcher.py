"""Runs the embedded server for as long as the node lives: `python launcher.py BINARY DATA_DIR SOCKET`.

Its standard input is a pipe whose other end the node holds: when that closes, whatever became of the node, the
server is told to stop, and killed if it does not. Needs nothing but the standard library, so that it starts at once.
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
STOP_SECONDS = 8.0
_PR_SET_PDEATHSIG = 1


def main(binary: str, data_dir: str, socket_path: str) -> int:
    """The exit code: EXIT_LOCKED when another server has the directory, else the server's."""
    lock = os.open(os.path.join(data_dir, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    give_up_at = time.monotonic() + LOCK_WAIT_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > give_up_at or _stdin_closed(0.1):
                return EXIT_LOCKED
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
            server.terminate()
            try:
                return server.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                server.kill()
                return server.wait()
    return server.returncode


def _stdin_closed(wait_seconds: float) -> bool:
    readable, _, _ = select.select([0], [], [], wait_seconds)
    return bool(readable) and not os.read(0, 1)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))
