"""The users of the cluster: workers that poll and push, and clients that start flows and send them commands.

Calls go to any node, get lost, and are repeated until one is answered, as the worker library and a careful client do.
Workers die while they hold attempts, return results too late or twice, or report failures.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import count
from typing import Any, TypeVar

import attrs
import trio

from orchy.engine.orchestrator import Result
from orchy.engine.starts import StartRequest
from orchy.errors import InvalidInput, NotFound, OrchyError, WrongState
from tests.simulation.books import require
from tests.simulation.decoding import Attempt, read_attempt
from tests.simulation.invariants import Checker
from tests.simulation.node import Life, NoAnswer, Node
from tests.simulation.workload import ACTION_NAMES, EVENTS, PICKS, draw_input
from tests.simulation.world import World

#: How long a caller waits for an answer.
CALL_TIMEOUT_SECONDS = 8.0
RETRY_SECONDS = 0.3

_T = TypeVar("_T")


@attrs.frozen
class Cluster:
    """The nodes, as callers see them."""

    world: World
    nodes: Sequence[Node]
    checker: Checker
    _tokens: Iterator[int] = attrs.field(factory=lambda: count(1))

    async def call(
        self,
        rng: random.Random,
        operation: Callable[[Life], Awaitable[_T]],
        wait: float = 0,
        *,
        leaves: float = 0.0,
        node: Node | None = None,
    ) -> _T:
        """Call a random node. Raises NoAnswer (the operation may still have been done), and the node's errors.

        With `node` the call goes there, without delay. `leaves` scales how often this caller gives up in the middle of
        the call, as a client does that closes its connection; that is not a fault.
        """
        profile, calm = self.world.profile, self.world.healed.is_set()
        fate = "answered"
        if not calm and rng.random() < profile.calls_lost:
            fate = rng.choice(("not sent", "answer lost", "caller left"))
            self.world.count("calls to nodes lost")
        elif leaves and not calm and rng.random() < profile.callers_leave * leaves:
            fate = "caller left"
            self.world.count("callers that left")
        if not node:
            await trio.sleep(rng.choice((0.0, 0.0, 0.001, 0.05)))
        if fate == "not sent":
            await trio.sleep(0.1)
            raise NoAnswer
        left_after = rng.choice((0.0005, 0.002, 0.01, 1.0))
        if node:
            left_after = rng.uniform(0, 4 * profile.store_delay_seconds)
        timeout = left_after if fate == "caller left" else wait + CALL_TIMEOUT_SECONDS
        quiet = self.world.quiet
        try:
            answer = await (node or rng.choice(self.nodes)).call(operation, timeout)
        except NoAnswer:
            await trio.sleep(0.001)  # if a broken rule has just ended the node, that ends the run first
            require(fate == "caller left" or not quiet, "in a sound world each call is answered", fate)
            raise
        if fate == "answer lost":
            raise NoAnswer
        return answer

    async def send_event(self, rng: random.Random, workflow: str, flow_id: str, event: str, node: Node | None) -> None:
        """Send one event; if it has an id (half of them do), until it is answered. The answer must be true."""
        token = f"{flow_id}/{next(self._tokens)}"
        event_id = token if rng.random() < 0.5 else None
        self.world.count("events sent")
        sent_before = False
        while True:
            try:
                delivered = await self.call(
                    rng,
                    lambda life: life.orchestrator.deliver(workflow, flow_id, event, {"token": token}, event_id),
                    leaves=2.0 if node else 1.0,  # more often in a crowd
                    node=node,
                )
                break
            except (NoAnswer, OrchyError) as error:
                if event_id is None or isinstance(error, WrongState | NotFound | InvalidInput):
                    return
                sent_before = True
                self.world.count("events sent again")
                await trio.sleep(RETRY_SECONDS)
        self.world.note(f"event {event} {token}: {'taken' if delivered else 'kept'}")
        require(sent_before or not delivered.duplicate, "only what was sent before is a duplicate", token)
        book = self.checker.books[flow_id]
        if delivered:
            require(token in book.consumed, "an event that is said to be taken was", token)
        require(token in book.tokens, "an accepted event is kept or taken", token)

    async def send_and_leave(self, workflow: str, flow_id: str, event: str, node: Node, seconds: float) -> None:
        """Send one event and give up after `seconds`; it may count or not."""
        token = f"{flow_id}/{next(self._tokens)}"
        self.world.count("callers that left")
        with suppress(NoAnswer, OrchyError):
            await node.call(
                lambda life: life.orchestrator.deliver(workflow, flow_id, event, {"token": token}, None), seconds
            )


class Worker:
    """A worker process; when it dies, another one starts under a new name."""

    def __init__(self, cluster: Cluster, number: int, nursery: trio.Nursery) -> None:
        self._cluster = cluster
        self._world = cluster.world
        self._number = number
        self._rng = self._world.stream(f"worker {number}")
        self._nursery = nursery
        self._results = count(1)
        self._batch: list[Result] = []
        self._lives = count(1)

    async def run(self) -> None:
        """Poll for each action in turn, until cancelled."""
        rng = self._rng
        name = f"w{self._number}.{next(self._lives)}"
        while True:
            for action in ACTION_NAMES:
                wait = rng.choice((0.0, 0.2, 1.0))
                limit = rng.randint(1, 4)
                try:
                    bodies = await self._cluster.call(rng, _polling(action, limit, wait, name), wait, leaves=0.3)
                except (NoAnswer, OrchyError):
                    await trio.sleep(RETRY_SECONDS)
                    continue
                if bodies and self._unlucky(self._world.profile.worker_deaths):
                    self._world.note(f"{name} dies with {len(bodies)} attempts in hand")
                    self._world.count("workers died")
                    await trio.sleep(rng.uniform(0, 2))
                    name = f"w{self._number}.{next(self._lives)}"
                    continue
                for body in bodies:
                    attempt = read_attempt(body)
                    self._cluster.checker.record_received(attempt)
                    self._nursery.start_soon(self._work, attempt, name)
            await trio.sleep(rng.uniform(0, 0.3))

    def _unlucky(self, rate: float) -> bool:
        return not self._world.healed.is_set() and self._rng.random() < rate

    async def _work(self, attempt: Attempt, name: str, return_result: Callable[[Result], None] | None = None) -> None:
        rng, profile = self._rng, self._world.profile
        await trio.sleep(rng.choice((0.0, 0.01, 0.3, 0.8)))
        if self._unlucky(profile.late_results):
            self._world.count("results that came late")
            await trio.sleep(attempt.timeout_seconds * rng.uniform(0.8, 2))
        token = f"{name}/{next(self._results)}"
        if self._unlucky(profile.worker_failures):
            self._world.count("attempts that failed")
            result = Result(*attempt.key, error=f"broken {token}", worker=name)
        else:
            output = {"token": token, "pick": rng.choice(PICKS)}
            self._cluster.checker.pushed.setdefault(attempt.key, []).append(output)
            result = Result(*attempt.key, output, worker=name)
        copies = 2 if self._unlucky(profile.doubled_results) else 1
        if copies > 1:
            self._world.count("results pushed twice")
        if return_result is not None:
            return_result(result)
            copies -= 1
        for _ in range(copies):
            if rng.random() < profile.batches:
                self._batch.append(result)
                if len(self._batch) == 1:
                    self._nursery.start_soon(self._push_batch)
            else:
                self._nursery.start_soon(self._push, result)

    async def _push_batch(self) -> None:
        """Push the results of the next moment with one call, and repeat until each is taken."""
        await trio.sleep(self._rng.choice((0.0, 0.05, 0.5)))
        batch, self._batch = self._batch, []
        while batch:
            results = list(batch)
            try:
                verdicts = await self._cluster.call(self._rng, partial(_pushing_all, results), leaves=1.0)
            except (NoAnswer, OrchyError):
                await trio.sleep(RETRY_SECONDS)
                continue
            self._world.count("batches of results")
            batch.clear()
            for result, verdict in zip(results, verdicts, strict=True):
                self._world.note(f"{result.flow_id} {result.action_id}.{result.attempt} of {result.worker}: {verdict}")
                require(not isinstance(verdict, InvalidInput), "a good result is not refused", verdict)
                if isinstance(verdict, OrchyError):
                    batch.append(result)
                else:
                    self._check(result, str(verdict) if verdict else "removed")
            if batch:
                await trio.sleep(RETRY_SECONDS)

    async def _push(self, result: Result) -> None:
        """Push one result until a node takes it."""
        while True:
            try:
                verdict = await self._cluster.call(self._rng, lambda life: life.orchestrator.push(result), leaves=1.0)
                self._world.note(f"{result.flow_id} {result.action_id}.{result.attempt} of {result.worker}: {verdict}")
            except InvalidInput as error:
                raise AssertionError(f"a good result was refused: {error}") from error
            except (NoAnswer, OrchyError):
                await trio.sleep(RETRY_SECONDS)
                continue
            self._check(result, str(verdict) if verdict else "removed")
            return

    def _check(self, result: Result, verdict: str) -> None:
        book = self._cluster.checker.books[result.flow_id]
        key = (result.action_id, result.attempt)
        if verdict == "removed":
            return
        require(key in book.ended or book.over, "a result that was taken has ended its attempt", (result, verdict))


def _polling(action: str, limit: int, wait: float, name: str) -> Callable[[Life], Awaitable[list[bytes]]]:
    return lambda life: life.dispatcher.poll(action, limit, wait, name)


async def _pushing_all(results: Sequence[Result], life: Life) -> Sequence[Any]:
    return await life.orchestrator.push_all(results)


class Client:
    """Starts one flow, and sends it the commands and events that users send."""

    def __init__(self, cluster: Cluster, number: int, workflow: str) -> None:
        self.flow_id = f"f{number}"
        self.workflow = workflow
        self._cluster = cluster
        self._world = cluster.world
        self._rng = self._world.stream(f"client {number}")
        self.input = cluster.checker.inputs[self.flow_id] = draw_input(self._rng)
        self._doubtful = False  # a command that was given up may still be in flight
        self.started = False

    async def run(self) -> None:
        """Start the flow, send commands until the world is healed, then let it end."""
        rng, world = self._rng, self._world
        await trio.sleep(rng.uniform(0, world.profile.fault_seconds * 0.6))
        for _ in range(rng.choice((1, 1, 2))):
            await self.start()
        await self.use()

    async def start(self) -> None:
        """Start the flow; it may be started already."""
        await self._until_answered(
            lambda life: life.engine.starts.start(StartRequest(self.workflow, self.input, flow_id=self.flow_id))
        )
        self.note_started()

    async def cancel(self) -> None:
        """Cancel the flow, unless it is over."""
        while not self._book.over:
            await self._command("cancel")

    def note_started(self) -> None:
        """The start was answered."""
        require(self.flow_id in self._cluster.checker.books, "an accepted flow is in the store", self.flow_id)
        self.started = True

    async def use(self) -> None:
        """Use the flow once it is started."""
        rng, world = self._rng, self._world
        while not world.healed.is_set():
            if rng.random() < world.profile.commands:
                await self._send_command()
            elif rng.random() < 0.1:
                async with trio.open_nursery() as many:
                    for _ in range(rng.randint(2, 12)):
                        many.start_soon(self._send_event)
            else:
                await self._send_event()
            with trio.move_on_after(rng.uniform(0.1, 6)):
                await world.healed.wait()
        while not self._book.over:
            if self._book.paused:
                await self._command("resume")
            await self._send_event()
            await trio.sleep(2)

    @property
    def _book(self) -> Any:
        return self._cluster.checker.books[self.flow_id]

    async def _send_command(self) -> None:
        command = self._rng.choice(("pause", "pause", "resume", "resume", "pause and resume", "cancel"))
        if command == "cancel" and self._rng.random() < 0.7:
            return
        if command == "pause and resume":
            await self._command("pause")
            await trio.sleep(self._rng.choice((0.0, 0.3, 3.0)))
            command = "resume"
        await self._command(command)

    async def _command(self, command: str) -> None:
        """Pause, resume or cancel; once that is answered, it must hold."""
        self._world.count(f"{command}s")

        async def send(life: Life) -> None:
            await getattr(life.orchestrator, command)(self.workflow, self.flow_id)

        try:
            await self._cluster.call(self._rng, send, leaves=1.0)
        except (WrongState, NotFound):
            return
        except (NoAnswer, OrchyError):
            self._doubtful = True
            return
        book = self._book
        self._world.note(f"{command} of {self.flow_id} is answered")
        if not self._doubtful:
            good = book.over or {"pause": book.paused, "resume": not book.paused, "cancel": False}[command]
            require(good, f"a {command} that is answered holds", self.flow_id)

    async def _send_event(self) -> None:
        """Send one event; it counts at most once, even if it has an id and is repeated."""
        event = self._rng.choice((*EVENTS, *self._book.awaited))
        await self._cluster.send_event(self._rng, self.workflow, self.flow_id, event, None)

    async def _until_answered(self, operation: Callable[[Life], Awaitable[Any]]) -> None:
        while True:
            try:
                await self._cluster.call(self._rng, operation)
                return
            except (NoAnswer, OrchyError):
                await trio.sleep(RETRY_SECONDS)
