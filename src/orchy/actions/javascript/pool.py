"""A pool of worker processes that run javascript, and are killed and replaced when they overrun.

Processes rather than threads, because an engine can take its process down: V8 aborts when memory runs out, and no
engine stops a script inside one of its long built-in calls. Each evaluation has a fresh context, so that no script sees
anything of another; the process is reused for speed.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import msgspec
import trio

from orchy.actions.javascript.port import Evaluation, ScriptFailure, ScriptProblem
from orchy.actions.javascript.process import Settings, WorkerEnded, WorkerProcess, start_worker
from orchy.actions.javascript.turns import Turns
from orchy.errors import Overloaded, StartupError
from orchy.flow.definition import JSON
from orchy.flow.json.scan import JSON_DEPTH_MAX

WORKERS = 2
TIME_LIMIT_SECONDS = 1.0
MEMORY_LIMIT_BYTES = 64 * 2**20
OUTPUT_LIMIT_BYTES = 10 * 2**20
#: How long after the time limit a worker is killed; a large context adds to it at this rate.
GRACE_SECONDS = 1.0
TRANSFER_BYTES_PER_SECOND = 4 * 2**20
#: How long a script may wait for a free worker. (How many may wait is in `turns`.)
WAIT_LIMIT_SECONDS = 30.0
#: A worker is replaced after this many scripts, in case they leave something behind in it.
SCRIPTS_PER_WORKER = 10_000

log = logging.getLogger(__name__)
_decode = msgspec.json.Decoder(dict[str, JSON]).decode
_encode = msgspec.json.Encoder().encode


#: The workflow name under which checks of definitions take turns. No workflow has it.
CHECKS = ""


class Pool:
    """Evaluates and checks scripts in worker processes. Made by `open_pool`."""

    def __init__(self, settings: Settings, workers: int, wait_limit_seconds: float, scripts_per_worker: int) -> None:
        self._settings = settings
        self._wait_limit_seconds = wait_limit_seconds
        self._scripts_per_worker = scripts_per_worker
        self._turns = Turns(workers)
        self._idle: deque[WorkerProcess] = deque()

    async def evaluate(
        self, expression: str, context: Mapping[str, JSON], workflow: str = ""
    ) -> Evaluation | ScriptFailure:
        """Run a script over a copy of `context`. Raises Overloaded."""
        try:
            script = expression.encode()
        except UnicodeEncodeError as error:
            line = expression.count("\n", 0, error.start) + 1
            return ScriptFailure(f"SyntaxError: half of a surrogate pair (line {line})", "syntax")
        await self._turn(workflow)
        try:
            kind, text = await self._evaluate(script, _encode(context))
        finally:
            self._turns.release()
        if kind != "ok":
            return ScriptFailure(text.decode(), kind)
        try:
            return Evaluation(_decode(text))
        except (msgspec.MsgspecError, RecursionError) as error:
            return ScriptFailure(f"the result is not JSON: {error}", "value")

    async def check(self, expression: str) -> ScriptProblem | None:
        """What is wrong with a script's syntax. Raises Overloaded."""
        try:
            script = expression.encode()
        except UnicodeEncodeError as error:
            before = expression[: error.start]
            place = before.count("\n") + 1, len(before) - before.rfind("\n")
            return ScriptProblem("SyntaxError: half of a surrogate pair", *place)
        await self._turn(CHECKS)
        try:
            kind, text = await self._evaluate(script, b"", parse_only=True)
        finally:
            self._turns.release()
        if kind == "ok":
            return None
        if kind == "syntax":
            return msgspec.json.decode(text, type=ScriptProblem)
        return ScriptProblem(f"it can't be parsed: {text.decode()}")

    async def _turn(self, workflow: str) -> None:
        with trio.move_on_after(self._wait_limit_seconds) as waited:
            await self._turns.acquire(workflow)
        if waited.cancelled_caught:
            raise Overloaded(f"no javascript worker was free within {self._wait_limit_seconds:g} s")

    async def _evaluate(self, script: bytes, context: bytes, *, parse_only: bool = False) -> tuple[str, bytes]:
        worker = await self._take()
        try:
            answer = await self._ask(worker, script, context, parse_only)
        finally:
            # After a cancellation in the middle of a request it is not reusable.
            if worker.reusable and worker.requests < self._scripts_per_worker:
                self._idle.append(worker)
            else:
                await worker.stop()
                worker.reusable = False
        if not worker.reusable:
            await self._replace()
        return answer

    async def _ask(self, worker: WorkerProcess, script: bytes, context: bytes, parse_only: bool) -> tuple[str, bytes]:
        limit_seconds = self._settings.time_limit_seconds
        kill_after_seconds = limit_seconds + GRACE_SECONDS + (len(script) + len(context)) / TRANSFER_BYTES_PER_SECOND
        with trio.move_on_after(kill_after_seconds):
            try:
                return await worker.ask(script, context, kill_after_seconds, parse_only=parse_only)
            except WorkerEnded:
                limit = f"{self._settings.memory_limit_bytes / 2**20:g} MB"
                return "memory", f"the script ended its engine: it needs more than {limit} of memory".encode()
        return "time", f"the script ran for more than {limit_seconds:g} s".encode()

    async def _take(self) -> WorkerProcess:
        """An idle worker that is still alive, else a new one. Raises Overloaded if none can be started."""
        while self._idle:
            worker = self._idle.pop()
            if worker.alive:
                return worker
            log.warning("a javascript worker ended while it was idle", extra={"pid": worker.pid})
            await worker.stop()
        try:
            return await start_worker(self._settings)
        except (WorkerEnded, OSError) as error:
            why = f": {error}" if str(error) else ""
            raise Overloaded(f"a javascript worker ({self._settings.engine}) did not start{why}") from None

    async def _replace(self) -> None:
        """Start a worker ahead of the next script. Called before the turn ends, so that there are never too many."""
        try:
            self._idle.append(await start_worker(self._settings))
        except (WorkerEnded, OSError) as error:  # the next script tries again
            log.warning("a javascript worker did not start: %r", error)

    async def warm_up(self) -> None:
        """Start one worker, and check that the engine works at all. Raises StartupError."""
        answer: Evaluation | ScriptFailure | None = None
        try:
            answer = await self.evaluate("$.ok = 1", {})
        except Overloaded as error:
            raise StartupError(str(error)) from None
        if answer != Evaluation({"ok": 1}):
            raise StartupError(f"the javascript engine {self._settings.engine} does not work: {answer}")

    async def close(self) -> None:
        """Stop the idle workers."""
        while self._idle:
            await self._idle.pop().stop()


@asynccontextmanager
async def open_pool(
    engine: str = "quickjs",
    workers: int = WORKERS,
    time_limit_seconds: float = TIME_LIMIT_SECONDS,
    memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
    output_limit_bytes: int = OUTPUT_LIMIT_BYTES,
    *,
    wait_limit_seconds: float = WAIT_LIMIT_SECONDS,
    scripts_per_worker: int = SCRIPTS_PER_WORKER,
) -> AsyncIterator[Pool]:
    """A pool with one worker ready; more are started on demand. Raises StartupError.

    `engine` is quickjs or v8; `workers` (>= 1) is how many scripts may run at the same time.
    """
    settings = Settings(engine, time_limit_seconds, memory_limit_bytes, output_limit_bytes, JSON_DEPTH_MAX)
    pool = Pool(settings, workers, wait_limit_seconds, scripts_per_worker)
    try:
        await pool.warm_up()
        yield pool
    finally:
        with trio.CancelScope(shield=True):
            await pool.close()
