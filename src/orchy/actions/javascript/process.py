"""A worker process as its parent has it: started, asked, killed. One evaluation at a time."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from subprocess import DEVNULL, PIPE

import attrs
import trio

from orchy.actions.javascript.worker import ANSWER, KINDS, REQUEST

START_MAX_SECONDS = 20.0
#: A killed process ends at once, unless the kernel is in trouble.
END_MAX_SECONDS = 5.0
RECEIVE_BYTES = 256 * 1024


@attrs.frozen
class Settings:
    """What every worker of a pool is started with. `depth_max`: how deep a value of the result may be nested."""

    engine: str
    time_limit_seconds: float
    memory_limit_bytes: int
    output_limit_bytes: int
    depth_max: int

    def command(self) -> list[str]:
        """The command line."""
        start = str(Path(__file__).with_name("start.py"))
        limits = (self.time_limit_seconds, self.memory_limit_bytes, self.output_limit_bytes, self.depth_max)
        return [sys.executable, start, self.engine, *map(str, limits)]


class WorkerEnded(Exception):
    """The process ended, or said something that it never says, before it gave its whole answer."""


class WorkerProcess:
    """One process and its two pipes. Made by `start_worker`; `stop` it in the end."""

    def __init__(self, process: trio.Process, output_limit_bytes: int) -> None:
        self._process = process
        self._output_limit_bytes = output_limit_bytes
        self._received = bytearray()
        self.asked = 0
        #: Whether it takes another request. False while it is asked, so that one that was left alone is not used again.
        self.fit = True

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    async def ask(
        self, script: bytes, context: bytes, give_up_after_seconds: float, *, parse_only: bool = False
    ) -> tuple[str, bytes]:
        """The kind of answer and its text. Raises WorkerEnded; the caller sees to the time."""
        assert self._process.stdin is not None
        self.asked += 1
        self.fit = False
        try:
            await self._process.stdin.send_all(
                b"".join((REQUEST.pack(give_up_after_seconds, parse_only, len(script), len(context)), script, context))
            )
        except trio.BrokenResourceError:
            raise WorkerEnded from None
        kind, text, last = await self._receive()
        self.fit = not last
        return kind, text

    async def ready(self) -> None:
        """Wait for it to say so. Raises WorkerEnded."""
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
        """Kill it and wait for its end; nothing that it holds matters."""
        self._process.kill()
        with trio.move_on_after(END_MAX_SECONDS, shield=True):
            await self._process.wait()
        with trio.CancelScope(shield=True):
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    await pipe.aclose()


async def start_worker(settings: Settings) -> WorkerProcess:
    """A worker that is ready. Raises WorkerEnded when it is not within START_MAX_SECONDS, OSError when it can't start.

    It gets none of Orchy's settings, for the store's password is among them.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ORCHY_")}
    process = await trio.lowlevel.open_process(
        settings.command(),
        stdin=PIPE,
        stdout=PIPE,
        stderr=DEVNULL,
        env=environment,
        start_new_session=True,  # a Ctrl-C at the terminal is for the server alone
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
