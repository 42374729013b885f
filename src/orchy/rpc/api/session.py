"""The stream of a worker: work out as it appears, results in; the meaning of `Work` in the worker API.

A session takes the worker's messages in some tasks and answers in another, so that a worker that reads slowly holds up
nobody's results but its own. What was handed out for a worker that has gone meanwhile, and was not sent, goes back into
its queue.

Why it is fast: actions are bytes that the commit put there, joined into a message as they are; the results of one
message are stepped together and leave in one write, by the task that took the message: while it waits for the store
another one takes the next message.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any

import trio

from orchy.dispatch.attempt_leases import Attempt, AttemptLeases
from orchy.dispatch.demand import Demand
from orchy.dispatch.dispatcher import Dispatcher
from orchy.engine.lost_attempts import Holding, Silence
from orchy.engine.orchestrator import Orchestrator
from orchy.errors import InvalidInput, OrchyError
from orchy.rpc.api.convert import EncodedActions
from orchy.rpc.api.leases import WorkerLease, attempts_of, is_of, messages_of
from orchy.rpc.api.outcomes import outcome_of, push_all, status_of
from orchy.rpc.generated import action_service_pb2 as pb
from orchy.rpc.grpc.framing import Code, Status
from orchy.runtime.gather import gather
from orchy.store.queues import Claimed, Receipt
from orchy.telemetry.unexpected import Where, note, survive

#: The most actions that one stream asks for.
ACTIONS_MAX = 1_000
#: The most attempts that a stream asks for, those included that the worker has not read yet.
CREDIT_MAX = 10_000
#: The most results, or extensions, of one message.
ITEMS_MAX = 1_000
NAME_CHARACTERS_MAX = 256
#: Messages that have no answer yet; the next one waits.
MESSAGES_AT_ONCE = 32
#: A message to a worker takes no further action when it has so many bytes.
REPLY_BYTES = 2**20
#: While a worker has left more than this unread, nothing is handed out to it.
UNDELIVERED_BYTES_MAX = 4 * 2**20
#: Extensions of one message that are with the store at the same time.
EXTENSIONS_AT_ONCE = 50
#: How long the commits of a stream that has ended are waited for.
SETTLE_SECONDS = 30.0

log = logging.getLogger(__name__)

#: Of an action, what the worker gets, and with what it is given back.
_Attempt = tuple[str, bytes, Receipt]


class Session:
    """One stream. `reply` and `leave` are of the call that carries it, `run` is a task of its own, in `nursery`."""

    def __init__(
        self,
        orchestrator: Orchestrator,
        dispatcher: Dispatcher,
        nursery: trio.Nursery,
        leases: AttemptLeases,
        lease_seconds: float,
    ) -> None:
        self._orchestrator = orchestrator
        self._dispatcher = dispatcher
        self._nursery = nursery
        self._leases = leases
        self.lease = WorkerLease(round(lease_seconds * 1000))
        self.handed_out = 0
        self.worker = ""
        self._demands: dict[str, Demand] = {}
        self._undelivered: deque[_Attempt] = deque()
        self._undelivered_bytes = 0
        self._on_its_way: list[_Attempt] = []
        self._taken: list[Any] = []
        self._extended: list[Any] = []
        self._answers = 0  # messages that these are for
        self._goodbye = False  # there will be no more work
        self._farewell = False  # and none is on its way
        self._ending = False
        self._unheard = False
        self._over = False
        self._changed = trio.Event()
        self._reading: trio.CancelScope | None = None
        self._claims: list[trio.CancelScope] = []
        self._turns = trio.Semaphore(MESSAGES_AT_ONCE)
        self._readers = 0
        self._idle_readers = 0
        self.broken: Status | None = None

    # The worker's messages.

    async def run(self, messages: AsyncIterator[Any]) -> None:
        """Take them until the worker ends the stream, or `leave`; what it has pushed till then is done in any case."""
        try:
            async with trio.open_nursery() as nursery:
                async with trio.open_nursery() as readers:
                    self._reading = readers.cancel_scope
                    if not self._ending:
                        self._add_reader(messages, readers, nursery)
                self._ending = True
                self._stop_claims(nursery)
        except* Exception as errors:  # one worker's stream is not the server's end
            note(Where.STREAM, "a worker's stream", errors)
            self.broken = Status(Code.INTERNAL, "the server failed; its log says why")
        finally:
            self._ending = True
            await self._give_back()
            self._over = True
            self._tell()

    def leave(self) -> None:
        """The call is over, the worker perhaps gone."""
        self._undelivered.extendleft(reversed(self._on_its_way))
        self._on_its_way.clear()
        self._end()

    def end_unheard(self) -> None:
        """The worker was not heard of for a lease: what has not left goes back; what it holds does by its leases."""
        if not self._ending:
            log.warning("worker %s was not heard of for %g s", self.worker, self.lease.lease_ms / 1000)
            self.broken = Status(Code.UNAVAILABLE, "nothing was heard of this worker for a lease")
            self._unheard = True
            self._end()

    def _end(self) -> None:
        """Take no more work and no more messages.

        Results that are with the store are waited for, for as long as it takes: nothing is to stay here meanwhile.
        """
        self._ending = True
        self._stop_reading()
        self._close_demands()
        self._give_back_soon()
        self._tell()

    async def ask(self, attempt: Attempt) -> Holding | Silence:
        """Whether the worker holds an attempt."""
        if attempt in self.lease.held and any(is_of(one[2], attempt) for one in self._undelivered):
            return Holding(True)  # it has not left yet
        if self._ending:  # nothing more is read
            return Silence.SILENT
        self._tell()
        return await self.lease.ask(attempt)

    def _stop_reading(self) -> None:
        if self._reading is not None:
            self._reading.cancel()

    def _add_reader(self, messages: AsyncIterator[Any], readers: trio.Nursery, nursery: trio.Nursery) -> None:
        self._readers += 1
        self._idle_readers += 1
        readers.start_soon(self._read, messages, readers, nursery)

    async def _read(self, messages: AsyncIterator[Any], readers: trio.Nursery, nursery: trio.Nursery) -> None:
        """Take one message after the other; while this task is busy with one, another task reads."""
        async for message in messages:
            self._idle_readers -= 1
            if not self._idle_readers and self._readers < MESSAGES_AT_ONCE:
                self._add_reader(messages, readers, nursery)
            try:
                self._check(message)
                if message.credits and not (self._goodbye or self._ending):
                    self._take_credits(message.credits, nursery)
            except InvalidInput as error:
                self.broken = status_of(error)
                self._end()
                return
            if message.goodbye:
                self._stop_claims(nursery)
            if message.holding:
                with trio.CancelScope(shield=True):
                    await self._renew(attempts_of(message.holding))
            if message.results or message.extend:
                await self._take_turn()
                with trio.CancelScope(shield=True):
                    await self._answer(message)
            self._idle_readers += 1

    async def _take_turn(self) -> None:
        """Wait until the worker has taken some of the answers that there are."""
        try:
            self._turns.acquire_nowait()
        except trio.WouldBlock:
            await self._turns.acquire()

    async def _answer(self, message: Any) -> None:
        if message.results:
            outcomes = await self._push(message.results)  # meanwhile `reply` may take what there is
            self.lease.bring(message.results)
            self._taken.append(pb.Taken(number=message.number, outcomes=outcomes))
        if message.extend:
            extended = await self._extend(message.extend)
            self._extended.append(pb.Extended(number=message.number, extended=extended))
        self._answers += 1
        self._tell()

    def _check(self, message: Any) -> None:
        if len(message.results) > ITEMS_MAX or len(message.extend) > ITEMS_MAX:
            raise InvalidInput(f"a message has at most {ITEMS_MAX} results and {ITEMS_MAX} attempts to extend")
        self.worker = self.worker or message.workerId[:NAME_CHARACTERS_MAX]
        self.lease.heard(message.renews)
        if message.renews:
            self._tell()
        if message.holding or message.missing:
            if max(len(message.holding), len(message.missing)) > ITEMS_MAX:
                raise InvalidInput(f"a message says of at most {ITEMS_MAX} attempts that they are held, or missing")
            self.lease.answer(attempts_of(message.holding), attempts_of(message.missing), message.upMillis)

    def _take_credits(self, changes: Any, nursery: trio.Nursery) -> None:
        # All that is, or may still come, on its way to the worker.
        given = sum(max(0, demand.given) for demand in self._demands.values())
        given += len(self._undelivered) + len(self._on_its_way)
        for credit in changes:
            name, count = credit.actionName, credit.count
            demand = self._demands.get(name) or self._demand(name, nursery)
            given += max(0, count)
            if count > 0 and given > CREDIT_MAX:
                raise InvalidInput(
                    f"a stream can have credit for {CREDIT_MAX} attempts, those included that are unread"
                )
            if count < 0 and demand.given + count < -CREDIT_MAX:
                raise InvalidInput(f"credit of {name} was taken back that was never given")
            demand.add(count)

    def _demand(self, name: str, nursery: trio.Nursery) -> Demand:
        if not 0 < len(name) <= NAME_CHARACTERS_MAX:
            raise InvalidInput(f"credit is for an actionName of 1 to {NAME_CHARACTERS_MAX} characters")
        if len(self._demands) == ACTIONS_MAX:
            raise InvalidInput(f"a stream is for at most {ACTIONS_MAX} actions")
        demand = self._demands[name] = Demand(name, self.worker, partial(self._deliver, name), self.lease.lease_ms)
        if self._undelivered_bytes > UNDELIVERED_BYTES_MAX:
            demand.hold()
        nursery.start_soon(self._hand_out, demand, nursery)
        return demand

    async def _hand_out(self, demand: Demand, nursery: trio.Nursery) -> None:
        with trio.CancelScope() as scope:
            self._claims.append(scope)
            await self._dispatcher.hand_out(demand)
        self._stop_claims(nursery)  # the server is about to stop

    def _stop_claims(self, nursery: trio.Nursery) -> None:
        """No more work, from whichever side that was said."""
        if not self._goodbye:
            self._goodbye = True
            self._close_demands()
            nursery.start_soon(self._settle)

    def _close_demands(self) -> None:
        for demand in self._demands.values():
            demand.close()
        for scope in self._claims:
            scope.cancel()

    async def _settle(self) -> None:
        """Wait for what is on its way; after that there is no more."""
        with trio.move_on_after(SETTLE_SECONDS):
            for demand in self._demands.values():
                await demand.settled()
        self._farewell = True
        self._tell()

    async def _push(self, results: Any) -> list[Any]:
        try:
            return await push_all(self._orchestrator, results)
        except OrchyError as error:
            return [outcome_of(error)] * len(results)

    async def _renew(self, attempts: Sequence[Attempt]) -> None:
        try:
            await self._leases.renew(attempts, self.lease.length_ms)
        except OrchyError as error:  # with the next ones, then
            log.debug("leases that worker %s has brought along are not renewed yet: %s", self.worker, error)

    async def _extend(self, attempts: Any) -> list[bool]:
        async def extend(attempt: Any) -> bool:
            try:
                return await self._orchestrator.extend(attempt.flowId, attempt.actionId, attempt.retryCount)
            except OrchyError:  # it is not known to be over, and the worker will ask again
                return True

        return await gather(extend, attempts, EXTENSIONS_AT_ONCE)

    # What it is told.

    async def reply(self) -> EncodedActions | None:
        """All that there is to say, as soon as there is something; None: nothing more will be.

        The one before is with the connection when the next one is asked for.
        """
        await trio.lowlevel.checkpoint_if_cancelled()  # otherwise it is not, and goes back
        self._on_its_way.clear()
        while True:
            if self._unheard:
                return None  # what it has pushed is answered when it comes again
            bodies = [] if self._ending else self._next_bodies()
            goodbye = self._farewell and not self._undelivered
            if bodies or self._taken or self._extended or goodbye or self.lease.has_to_tell:
                break
            if self._over:
                return None
            self._changed = trio.Event()
            await self._changed.wait()
        rest = b""
        if self._taken or self._extended or goodbye or self.lease.has_to_tell:
            lease_ms, asks = self.lease.to_tell()
            told = pb.ServerMessage(
                taken=self._taken,
                extended=self._extended,
                goodbye=goodbye,
                leaseMillis=lease_ms,
                asks=messages_of(asks, pb.Attempt),
            )
            rest = told.SerializeToString()
            for _ in range(self._answers):
                self._turns.release()
            self._taken, self._extended, self._answers = [], [], 0
            self._farewell &= not goodbye
        return EncodedActions(bodies, rest)

    def _next_bodies(self) -> list[bytes]:
        bodies: list[bytes] = []
        size_bytes = 0
        while self._undelivered and size_bytes < REPLY_BYTES:
            attempt = self._undelivered.popleft()
            self._on_its_way.append(attempt)
            size_bytes += len(attempt[1])
            bodies.append(attempt[1])
        before_bytes, self._undelivered_bytes = self._undelivered_bytes, self._undelivered_bytes - size_bytes
        if self._undelivered_bytes <= UNDELIVERED_BYTES_MAX < before_bytes:
            for demand in self._demands.values():
                demand.go_on()
        return bodies

    def _deliver(self, action_name: str, claimed: Claimed) -> None:
        for body, receipt in zip(claimed.bodies, claimed.receipts, strict=True):
            self._undelivered.append((action_name, body, receipt))
            self._undelivered_bytes += len(body)
        self.handed_out += len(claimed.bodies)
        self.lease.take(claimed.receipts)
        if self._undelivered_bytes > UNDELIVERED_BYTES_MAX:
            for demand in self._demands.values():
                demand.hold()
        if self._ending:
            self._give_back_soon()
        self._tell()

    def _tell(self) -> None:
        self._changed.set()

    # What it can't be told any more.

    def _give_back_soon(self) -> None:
        if self._undelivered:
            try:
                self._nursery.start_soon(self._give_back)
            except RuntimeError:  # it is closed: the server is gone in a moment
                log.warning("%d attempts come back by their timeouts", len(self._undelivered))

    async def _give_back(self) -> None:
        """Others shall have what was not sent."""
        with survive(Where.STREAM, "attempts that were not sent"):
            await self._give_back_all()

    async def _give_back_all(self) -> None:
        while self._undelivered:
            left: dict[str, list[tuple[bytes, Receipt]]] = {}
            for action_name, body, receipt in self._undelivered:
                left.setdefault(action_name, []).append((body, receipt))
            self._undelivered.clear()
            for action_name, attempts in left.items():
                bodies, receipts = zip(*attempts, strict=True)
                await self._dispatcher.give_back(action_name, Claimed(bodies, (), receipts))
