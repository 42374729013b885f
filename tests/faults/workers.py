"""A process with several workers that write down what they see.

`python -m tests.faults.workers LOG CONTROL FIRST COUNT SERVER...`: LOG gets one JSON object a line: `received` (an
attempt), `push` (its result leaves), `pushed` (a server answered). CONTROL is a file that says how they behave, read
again every CONTROL_LOOK_SECONDS: `times` each result is pushed, `late` the share of first attempts of `hasty` whose
result comes after its timeout.
"""

from __future__ import annotations

import json
import logging
import random
import sys
import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import trio

from orchy.rpc.generated import action_service_pb2 as pb
from orchy.rpc.grpc.channel import Channel
from orchy.worker import ActionContext, ActionFailed, Worker
from orchy.worker import streams as streams_module
from orchy.worker import worker as worker_module
from orchy.worker.results import ResultPusher
from orchy.worker.stream import FinishedAttempt, Stream
from tests.faults import shapes

CONTROL_LOOK_SECONDS = 0.1
THREADS = 8

_log = open(sys.argv[1], "a", buffering=1) if __name__ == "__main__" else sys.stdout  # noqa: SIM115
_control: dict[str, Any] = {}


def note(what: str, **details: Any) -> None:
    """Write a line at once, so that a kill loses none."""
    _log.write(json.dumps({"at": time.time(), "what": what, **details}) + "\n")


class NotedResults(ResultPusher):
    """Pushes each result as often as CONTROL says, and logs each push and its answer."""

    async def push(self, result: pb.ActionResult) -> None:
        for _ in range(_control.get("times", 1)):
            await super().push(result)

    async def _push_once(self, channel: Channel, result: pb.ActionResult, answer_seconds: float) -> bool:
        about = _about(result)
        note("push", **about)
        done = await super()._push_once(channel, result, answer_seconds)
        if done:
            note("pushed", **about)
        return done

    async def _push_all(
        self, channel: Channel, results: Sequence[pb.ActionResult], answer_seconds: float
    ) -> Sequence[bool]:
        about = [_about(result) for result in results]
        for one in about:
            note("push", **one)
        outcomes = await super()._push_all(channel, results, answer_seconds)
        for one, done in zip(about, outcomes, strict=True):
            if done:
                note("pushed", **one)
        return outcomes


class NotedStream(Stream):
    """Sends each result as often as CONTROL says (repeats by a call), and logs what is sent and received."""

    def send_result(self, done: FinishedAttempt) -> None:
        owner: Any = self._owner
        for _ in range(_control.get("times", 1) - 1):
            owner._work.start_soon(ResultPusher.push, owner._results, done.result)
        super().send_result(done)

    def _next_batch(self) -> list[FinishedAttempt]:
        batch = super()._next_batch()
        for done in batch:
            note("push", **_about(done.result))
        return batch

    def _take_outcomes(self, batch: list[FinishedAttempt], outcomes: Sequence[pb.PushOutcome]) -> None:
        for done, outcome in zip(batch, outcomes, strict=False):
            if len(outcomes) == len(batch) and not outcome.code:
                note("pushed", **_about(done.result))
        super()._take_outcomes(batch, outcomes)


def _about(result: pb.ActionResult) -> dict[str, Any]:
    token = result.data["token"].string_value if "token" in result.data else None
    return {"flow": result.flowId, "action": result.actionId, "attempt": result.retryCount, "token": token}


def make_worker(number: int, servers: list[str]) -> Worker:
    """One worker with all actions."""
    worker_id = f"worker-{number}"
    worker = Worker(*servers, worker_id=worker_id)
    rng = random.Random(number)
    tokens = count()

    def register(name: str) -> None:
        attempts, retry_seconds, timeout_seconds = shapes.ACTIONS[name]

        @worker.action(
            name,
            retry_count=attempts,
            retry_after_seconds=retry_seconds,
            timeout_seconds=timeout_seconds,
            threads=THREADS,
        )
        async def act(data: dict[str, Any], context: ActionContext) -> dict[str, Any]:
            first = context.attempt == 1
            fails = name == "flaky" and first
            late = name == "hasty" and first and rng.random() < _control.get("late", 0.2)
            about = {"flow": context.flow_id, "action": context.action_id, "attempt": context.attempt}
            note("received", **about, worker=worker_id, meant="fail" if fails else "late" if late else "")
            await trio.sleep(shapes.LATE_SECONDS if late else shapes.WORK_SECONDS)
            if fails:
                raise ActionFailed("as it was told to")
            return {"token": f"{worker_id}-{sys.argv[1][-8:]}-{next(tokens)}", "number": data.get("number")}

    for name in shapes.ACTIONS:
        register(name)
    return worker


async def read_control(path: Path) -> None:
    """Until cancelled."""
    while True:
        if path.exists():
            _control.clear()
            _control.update(json.loads(path.read_text()))
        await trio.sleep(CONTROL_LOOK_SECONDS)


async def main(control: Path, first: int, workers: int, servers: list[str]) -> None:
    """Work until SIGTERM."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read_control, control)
        for number in range(first, first + workers):
            nursery.start_soon(make_worker(number, servers).run_async)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    worker_module.ResultPusher = NotedResults  # type: ignore[attr-defined]
    streams_module.Stream = NotedStream  # type: ignore[misc]
    trio.run(main, Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5:])
