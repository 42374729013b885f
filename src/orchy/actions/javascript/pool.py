"""The pool: javascript in worker processes that are killed when they overrun, and replaced.

A process and not a thread, because an engine can take its process with it: V8 aborts when memory runs out, and no
engine stops a script that is inside one of its own long calls. Each evaluation has a fresh context, so that nothing of
one is seen by a later one; the process lives on, for speed.
"""

from __future__ import annotations

import logging
import sys
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import DEVNULL, PIPE

import msgspec
import trio

from orchy.actions.javascript.port import Evaluation, ScriptFailure
from orchy.errors import Overloaded, StartupError
from orchy.flow.definition import JSON

WORKERS = 2
TIME_LIMIT_SECONDS = 1.0
MEMORY_LIMIT_BYTES = 64 * 2**20
OUTPUT_LIMIT_BYTES = 10 * 2**20
#: How long after its limit a script's worker is killed.
GRACE_SECONDS = 0.5
#: How long a script may wait for a worker that is free.
WAIT_MAX_SECONDS = 30.0
START_MAX_SECONDS = 20.0
#: A worker is replaced after so many scripts, whatever they may have left in it.
SCRIPTS_PER_WORKER = 10_000

log = logging.getLogger(__name__)
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class Pool:
    """Some workers. Made by `open_pool`."""

    def __init__(
        self,
        engine: str,
        workers: int,
        time_limit_seconds: float,
        memory_limit_bytes: int,
        output_limit_bytes: int,
    ) -> None:
        self._command = [
            sys.executable,
            str(Path(__file__).parent / "worker.py"),
            engine,
            str(time_limit_seconds),
            str(memory_limit_bytes),
            str(output_limit_bytes),
        ]
        self._time_limit_seconds = time_limit_seconds
        self._memory_limit_bytes = memory_limit_bytes
        self._free = trio.Semaphore(workers)
        self._idle: deque[_Worker] = deque()

    async def evaluate(self, expression: str, context: Mapping[str, JSON]) -> Evaluation | ScriptFailure:
        """See the port."""
        request = _encode([expression, _encode(context).decode()])
        with trio.move_on_after(WAIT_MAX_SECONDS) as waited:
            await self._free.acquire()
        if waited.cancelled_caught:
            raise Overloaded(f"no javascript worker was free within {WAIT_MAX_SECONDS:.0f} s")
        try:
            worker = self._idle.pop() if self._idle else await self._start()
            try:
                kind, text = await self._ask(worker, request)
            finally:
                # Whatever was cut off in the middle is not asked again.
                if worker.fit:
                    self._idle.append(worker)
                else:
                    await worker.stop()
        finally:
            self._free.release()
        if kind != "ok":
            return ScriptFailure(text, kind)
        try:
            return Evaluation(_decode(text.encode("utf-8", "surrogatepass")))
        except msgspec.DecodeError as error:
            return ScriptFailure(f"the result is not JSON: {error}", "value")

    async def _ask(self, worker: _Worker, request: bytes) -> tuple[str, str]:
        worker.fit = False
        with trio.move_on_after(self._time_limit_seconds + GRACE_SECONDS):
            try:
                kind, text = await worker.ask(request)
            except (trio.BrokenResourceError, EOFError):
                return "memory", (
                    "the script ended its engine: it needs more than"
                    f" {self._memory_limit_bytes >> 20} MB of memory, or found a fault in it"
                )
            worker.fit = worker.asked < SCRIPTS_PER_WORKER
            return kind, text
        return "time", f"the script ran for more than {self._time_limit_seconds:g} s"

    async def _start(self) -> _Worker:
        process = await trio.lowlevel.open_process(
            self._command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, start_new_session=True
        )
        worker = _Worker(process)
        try:
            with trio.fail_after(START_MAX_SECONDS):
                await worker.receive()
        except (trio.TooSlowError, EOFError, trio.BrokenResourceError):
            await worker.stop()
            raise Overloaded(f"a javascript worker did not start: {' '.join(self._command[1:])}") from None
        except BaseException:
            await worker.stop()
            raise
        return worker

    async def warm_up(self) -> None:
        """Have one worker ready, and know that the engine works at all. Raises StartupError."""
        answer: Evaluation | ScriptFailure | None = None
        try:
            answer = await self.evaluate("$.ok = 1", {})
        except Overloaded as error:
            raise StartupError(str(error)) from None
        if answer != Evaluation({"ok": 1}):
            raise StartupError(f"the javascript engine does not work: {answer}")

    async def close(self) -> None:
        """End the workers that are idle."""
        while self._idle:
            await self._idle.pop().stop()


class _Worker:
    """One process and its two pipes."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._received = bytearray()
        self.asked = 0
        self.fit = True

    async def ask(self, request: bytes) -> tuple[str, str]:
        """Send a request and wait for the answer. Raises EOFError or BrokenResourceError when the process ends."""
        self.asked += 1
        assert self._process.stdin is not None
        await self._process.stdin.send_all(len(request).to_bytes(4, "big") + request)
        return await self.receive()

    async def receive(self) -> tuple[str, str]:
        """The next answer."""
        length = int.from_bytes(await self._take(4), "big")
        kind, text = _decode(await self._take(length))
        return kind, text

    async def _take(self, count: int) -> bytes:
        assert self._process.stdout is not None
        while len(self._received) < count:
            data = await self._process.stdout.receive_some(1 << 18)
            if not data:
                raise EOFError
            self._received += data
        taken = bytes(self._received[:count])
        del self._received[:count]
        return taken

    async def stop(self) -> None:
        """Kill it; nothing that it holds matters."""
        self._process.kill()
        with trio.CancelScope(shield=True):
            await self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    await pipe.aclose()


@asynccontextmanager
async def open_pool(
    engine: str = "quickjs",
    workers: int = WORKERS,
    time_limit_seconds: float = TIME_LIMIT_SECONDS,
    memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
    output_limit_bytes: int = OUTPUT_LIMIT_BYTES,
) -> AsyncIterator[Pool]:
    """A pool with one worker ready; more start when they are needed. Raises StartupError.

    `engine` is quickjs or v8; `workers` (>= 1) is how many scripts run at the same time.
    """
    pool = Pool(engine, workers, time_limit_seconds, memory_limit_bytes, output_limit_bytes)
    try:
        await pool.warm_up()
        yield pool
    finally:
        with trio.CancelScope(shield=True):
            await pool.close()
