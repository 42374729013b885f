"""Many idle connections at a real node: `python -m tests.listeners.connections --count 10000`.

Half of them at the REST port, half at the workers' port, from many loopback addresses. Meanwhile requests are sent, and
in the end everything is released. Exit code 1 if a call failed or took longer than CALL_SECONDS_MAX, or if
connections stay behind.
"""

from __future__ import annotations

import argparse
import resource
import socket
import statistics
import tempfile
import time
from pathlib import Path

import attrs

from tests.conftest import OrchyServer

CALLS = 50
CALL_SECONDS_MAX = 2.0
CLOSED_SECONDS = 15.0
PER_ADDRESS = 10_000
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"


@attrs.frozen
class Outcome:
    """`refused`: ended by the node at once. Seconds are those of REST calls; memory in MiB."""

    held: int
    refused: int
    before_seconds: float
    during_seconds: float
    longest_seconds: float
    before_mb: float
    during_mb: float
    after_mb: float
    left: int

    @property
    def good(self) -> bool:
        """Whether the node held up."""
        return self.longest_seconds <= CALL_SECONDS_MAX and self.left <= 5


def allow_files(count: int) -> None:
    """This process, and the node that it starts, may have so many files open. Raises SystemExit if they may not."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < count + 200:
        raise SystemExit(f"{count} connections need more open files than the {most} that are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (count + 200, most))


def open_many(server: OrchyServer, count: int) -> Outcome:
    """Open them, call, close them."""
    before = _times(server)
    files, before_mb = _files(server), _memory_mb(server)
    sockets = []
    try:
        for number in range(count):
            port = server.http_port if number % 2 else server.grpc_port
            source = (f"127.0.{1 + number // PER_ADDRESS}.1", 0)
            connection = socket.create_connection(("127.0.0.1", port), 10, source_address=source)
            sockets.append(connection)
            if number % 2 == 0:
                connection.sendall(PREFACE)
        time.sleep(1)
        during, during_mb, held = _times(server), _memory_mb(server), _files(server) - files
    finally:
        for connection in sockets:
            connection.close()
    give_up_at = time.monotonic() + CLOSED_SECONDS
    while (left := _files(server) - files) > 5 and time.monotonic() < give_up_at:
        time.sleep(0.1)
    return Outcome(
        held=held,
        refused=count - held,
        before_seconds=statistics.median(before),
        during_seconds=statistics.median(during),
        longest_seconds=max(during),
        before_mb=before_mb,
        during_mb=during_mb,
        after_mb=_memory_mb(server),
        left=left,
    )


def _times(server: OrchyServer) -> list[float]:
    times = []
    for _ in range(CALLS):
        began = time.monotonic()
        server.get("/health/ready")
        times.append(time.monotonic() - began)
    return times


def _files(server: OrchyServer) -> int:
    assert server.process is not None
    return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))


def _memory_mb(server: OrchyServer) -> float:
    assert server.process is not None
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def main() -> int:
    """Prints what came of it."""
    parser = argparse.ArgumentParser("python -m tests.listeners.connections", description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    arguments = parser.parse_args()
    allow_files(arguments.count)
    with tempfile.TemporaryDirectory() as folder:
        server = OrchyServer(["--data-dir", f"{folder}/data"], Path(folder) / "server.log").start()
        try:
            outcome = open_many(server, arguments.count)
        finally:
            server.kill()
    print(f"connections held     {outcome.held}, refused at once {outcome.refused}")
    before, during, longest = (
        1e3 * seconds for seconds in (outcome.before_seconds, outcome.during_seconds, outcome.longest_seconds)
    )
    print(f"a call, median       {before:.1f} ms before, {during:.1f} ms with them; the longest {longest:.1f} ms")
    memory = f"{outcome.before_mb:.0f} MB before, {outcome.during_mb:.0f} with them, {outcome.after_mb:.0f} after"
    print(f"memory of the node   {memory}")
    print(f"connections left     {outcome.left}")
    return 0 if outcome.good else 1


if __name__ == "__main__":
    raise SystemExit(main())
