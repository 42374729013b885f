"""The parent's side of a worker process: starts it, sends requests, kills it. One evaluation at a time."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from subprocess import DEVNULL, PIPE

import attrs
import trio

from orchy.actions.javascript.worker import ANSWER, KINDS, REQUEST

START_MAX_SECONDS = 20.0
#: A killed process ends at once, except in uninterruptible sleep.
END_MAX_SECONDS = 5.0
RECEIVE_BYTES = 256 * 1024


@attrs.frozen
class Settings:
    """Settings of all workers of a pool. `depth_max`: how deep a value of the result may be nested."""

    engine: str
    time_limit_seconds: float
    memory_limit_bytes: int
    output_limit_bytes: int
    depth_max: int

    def command(self) -> list[str]:
        """The command line that starts a worker."""
        start = str(Path(__file__).with_name("start.py"))
        limits = (self.time_limit_seconds, self.memory_limit_bytes, self.output_limit_bytes, self.depth_max)
        return [sys.executable, start, self.engine, *map(str, limits)]


class WorkerEnded(Exception):
    """The process ended, or broke the protocol, before its answer was complete."""


class WorkerProcess:
    """One process and its two pipes. Made by `start_worker`; `stop` it in the end."""

    def __init__(self, process: trio.Process, output_limit_bytes: int) -> None:
        self._process = process
        self._output_limit_bytes = output_limit_bytes
        self._received = bytearray()
        self.requests = 0
        #: False during a request, too, so that a worker whose request was cancelled is not reused.
        self.reusable = True

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    async def ask(
        self, script: bytes, context: bytes, give_up_after_seconds: float, *, parse_only: bool = False
    ) -> tuple[str, bytes]:
        """Send a request; the kind of the answer and its text. Raises WorkerEnded. The caller sets the timeout."""
        assert self._process.stdin is not None
        self.requests += 1
        self.reusable = False
        try:
            await self._process.stdin.send_all(
                b"".join((REQUEST.pack(give_up_after_seconds, parse_only, len(script), len(context)), script, context))
            )
        except trio.BrokenResourceError:
            raise WorkerEnded from None
        kind, text, last = await self._receive()
        self.reusable = not last
        return kind, text

    async def ready(self) -> None:
        """Wait for the answer that a worker sends when it is ready. Raises WorkerEnded."""
        await self._receive()

    async def _receive(self) -> tuple[str, bytes, bool]:
        kind, last, length = ANSWER.unpack(await self._take(ANSWER.size))
        if kind >= len(KINDS) or length > self._output_limit_bytes:
            raise WorkerEnded
        return KINDS[kind], await self._take(length), last

    async def _take(self, count: int) -> bytes:
        assert self._process.stdout is not None
        try:
            while len(self._received) < count:
                data = await self._process.stdout.receive_some(RECEIVE_BYTES)
                if not data:
                    raise WorkerEnded
                self._received += data
        except trio.BrokenResourceError:
            raise WorkerEnded from None
        taken = bytes(self._received[:count])
        del self._received[:count]
        return taken

    async def stop(self) -> None:
        """Kill the process and wait for its end."""
        self._process.kill()
        with trio.move_on_after(END_MAX_SECONDS, shield=True):
            await self._process.wait()
        with trio.CancelScope(shield=True):
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    await pipe.aclose()


async def start_worker(settings: Settings) -> WorkerProcess:
    """Start a worker. Raises WorkerEnded if it is not ready within START_MAX_SECONDS, OSError if it can't be started.

    It gets none of Orchy's environment variables, as one of them has the store's password.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ORCHY_")}
    process = await trio.lowlevel.open_process(
        settings.command(),
        stdin=PIPE,
        stdout=PIPE,
        stderr=DEVNULL,
        env=environment,
        start_new_session=True,  # Ctrl-C at the terminal is for the server only
    )
    worker = WorkerProcess(process, max(settings.output_limit_bytes, RECEIVE_BYTES))
    try:
        with trio.fail_after(START_MAX_SECONDS):
            await worker.ready()
    except trio.TooSlowError:
        await worker.stop()
        raise WorkerEnded from None
    except BaseException:
        await worker.stop()
        raise
    return worker
