"""The use cases: the requests of users, workers and timers to flows. `mover` moves the flows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from uuid import UUID, uuid4

from msgspec import Struct

from orchy.engine.catalog import Catalog
from orchy.engine.event_names import warning_of
from orchy.engine.flow_cache import CachedFlow
from orchy.engine.mailbox import Envelope
from orchy.engine.mover import Mover
from orchy.engine.ports import Observer, Wakeups
from orchy.engine.rule_book import RuleBook
from orchy.errors import InvalidInput, NotFound, OrchyError, Problem, WrongState
from orchy.flow import codec
from orchy.flow.definition import JSON
from orchy.flow.effects import Record, RecordType
from orchy.flow.events import (
    Cancel,
    Completed,
    EventReceived,
    Failed,
    NotReceived,
    Pause,
    Resume,
    TimerFired,
    TimerKind,
)
from orchy.flow.execution import Flow, Phase
from orchy.flow.limits import EVENT_ID_CHARS_MAX
from orchy.flow.machine import Verdict
from orchy.flow.runs import RunId
from orchy.runtime.batcher import Batcher
from orchy.store.flows import FlowStore
from orchy.store.timers import DueTimer, TimerKey, TimerSetting


class Result(Struct, frozen=True):
    """A worker's result of one attempt: its output, or with `error` its failure."""

    flow_id: str
    action_id: RunId
    attempt: int
    output: JSON = None
    error: str | None = None
    worker: str = ""


class Delivery(Struct, frozen=True):
    """What happened to an event: a wait took it (true), or it is kept for a later one (false). `duplicate`: an event
    with this id was sent before, and this repeats its answer."""

    delivered: bool
    duplicate: bool = False

    def __bool__(self) -> bool:
        return self.delivered


class Orchestrator:
    """Carries out requests to flows. Safe to use from many tasks."""

    def __init__(
        self,
        *,
        store: FlowStore,
        catalog: Catalog,
        rules: RuleBook,
        mover: Mover,
        partition_of: Callable[[str], int],
        wakeups: Wakeups,
        observer: Observer,
        new_uuid: Callable[[], UUID] = uuid4,
    ) -> None:
        self._store = store
        self._catalog = catalog
        self._rules = rules
        self._mover = mover
        self._partition_of = partition_of
        self._wakeups = wakeups
        self._observer = observer
        self._new_uuid = new_uuid
        self._pushes: Batcher[Result, Envelope] = Batcher(self._push_fast)

    async def push(self, result: Result) -> Verdict | None:
        """Take in a worker's result. None: there is no such flow (it may have been removed after its end).

        Raises InvalidInput for an action that the flow does not have, DefinitionMissing, and what the store raises;
        after the latter two the result may be pushed again.
        """
        envelope = await self._pushes.do(result)
        if envelope.answer is None:  # needs the slow path, without holding up the rest of the batch
            await self._mover.post_slow(result.flow_id, envelope)
        answer = self._answer_of(envelope)
        if isinstance(answer, OrchyError):
            envelope.answer = envelope.flow = None
            try:
                raise answer
            finally:
                del answer  # its traceback has this frame
        return answer

    async def push_all(self, results: Sequence[Result]) -> list[Verdict | OrchyError | None]:
        """Take in many results concurrently: what `push` would return or raise for each, in order."""
        in_order, envelopes = _envelopes_of(results)
        await self._mover.post_all(envelopes)
        return [self._answer_of(envelope) for envelope in in_order]

    async def _push_fast(self, results: Sequence[Result]) -> list[Envelope]:
        in_order, envelopes = _envelopes_of(results)
        await self._mover.post_fast(envelopes)
        return in_order

    def _answer_of(self, envelope: Envelope) -> Verdict | OrchyError | None:
        answer = None if isinstance(envelope.answer, NotFound) else envelope.answer
        if not isinstance(answer, OrchyError):
            self._observer.result_taken("unknown" if answer is None else answer)
        return answer

    async def extend(self, flow_id: str, action_id: RunId, attempt: int) -> bool:
        """Restart the timeout of an attempt that was handed out; False if the attempt is over.

        Raises what the store raises.
        """
        try:
            flow = (await self._mover.flow(flow_id)).flow
            if not _is_with_workers(flow, action_id, attempt):  # the cached flow may be outdated
                flow = (await self._mover.flow(flow_id, allow_cached=False)).flow
            graph = await self._catalog.graph_of_flow(flow.workflow, flow.workflow_version)
        except NotFound:
            return False
        if not _is_with_workers(flow, action_id, attempt):
            return False
        seconds = (await self._rules.current()).timeout_seconds(graph.action_of(action_id).name)
        timer = TimerSetting(TimerKey(TimerKind.TIMEOUT, action_id, attempt, flow_id), math.ceil(seconds * 1000))
        return await self._store.extend(self._partition_of(flow_id), timer)

    async def deliver(self, name: str, flow_id: str, event: str, data: JSON, event_id: str | None = None) -> Delivery:
        """Send an event to a flow. A repeated `event_id` changes nothing, up to RECENT_EVENTS_MAX later events.

        Raises NotFound, WrongState (the flow is over), LimitReached (a WrongState: too many events are kept), TooLarge,
        InvalidInput (`event_id`).
        """
        if event_id is not None and not (0 < len(event_id) <= EVENT_ID_CHARS_MAX and event_id.isprintable()):
            raise InvalidInput(f"an event's id is 1 to {EVENT_ID_CHARS_MAX} printable characters")
        envelope = Envelope(EventReceived(event, data, event_id or self._new_uuid().hex[:16]), name)
        verdict, cached = await self._mover.post(flow_id, envelope)
        if verdict is Verdict.REFUSED:
            raise WrongState(f"flow {flow_id} is {cached.flow.state} and takes no events")
        again = verdict in (Verdict.DUPLICATE, Verdict.KEPT_BEFORE)
        return Delivery(verdict in (Verdict.APPLIED, Verdict.DUPLICATE), again and not envelope.unsure)

    async def event_warnings(self, flow_id: str, event: str) -> list[Problem]:
        """Warnings about an event that was kept: that no wait has its name. Best effort."""
        try:
            flow = (await self._mover.flow(flow_id)).flow
            graph = await self._catalog.graph(flow.workflow, flow.workflow_version)
        except OrchyError:  # the event is kept all the same
            return []
        warning = warning_of(graph.workflow, event)
        return [] if warning is None else [warning]

    async def pause(self, name: str, flow_id: str) -> CachedFlow:
        """Pause a flow: start nothing new. Idempotent. Raises NotFound, WrongState (it is over)."""
        return await self._command(name, flow_id, Pause(), "paused")

    async def resume(self, name: str, flow_id: str) -> CachedFlow:
        """Resume a flow; if it is not paused, nothing changes. Raises NotFound, WrongState (it is over)."""
        return await self._command(name, flow_id, Resume(), "resumed")

    async def cancel(self, name: str, flow_id: str) -> CachedFlow:
        """End a flow now. Idempotent. Raises NotFound, WrongState (it has completed or failed)."""
        return await self._command(name, flow_id, Cancel(), "cancelled")

    async def release(self, flow_id: str, reason: str) -> None:
        """End a flow's quarantine: its timers that were set aside are due now.

        Raises NotFound, WrongState (it is not in quarantine), and what the store raises.
        """
        partition = self._partition_of(flow_id)
        entry = codec.encode_record(Record(RecordType.RELEASED, detail=reason))
        released = await self._store.release_flow(partition, flow_id, entry)
        if released is None:
            raise NotFound(f"there is no flow {flow_id}")
        if not released:
            raise WrongState(f"flow {flow_id} is not in quarantine")
        self._wakeups.timer_set(partition, 0)

    async def fire(self, due: DueTimer, worker: str = "") -> None:
        """Handle a due timer. If this raises, the store delivers the timer again.

        It is cancelled without effect only if its attempt is over or the flow is gone. A timer that has been moved
        meanwhile is left alone. `worker` is the lost worker, for a LOST timer.
        """
        key = due.key
        await self._fire(due, TimerFired(key.kind, key.action_id, key.attempt, worker))

    async def hand_out_again(self, due: DueTimer) -> None:
        """Handle a LOST timer whose worker never received the attempt: queue it again."""
        await self._fire(due, NotReceived(due.key.action_id, due.key.attempt))

    async def _fire(self, due: DueTimer, event: TimerFired | NotReceived) -> None:
        key = due.key
        try:
            verdict, _ = await self._mover.post(key.flow_id, Envelope(event))
        except NotFound:
            verdict = Verdict.STALE
        if verdict is Verdict.STALE:
            await self._store.cancel_timers(due.partition, [key])

    async def _command(self, name: str, flow_id: str, command: Pause | Resume | Cancel, done: str) -> CachedFlow:
        verdict, cached = await self._mover.post(flow_id, Envelope(command, name))
        if verdict is Verdict.REFUSED:
            raise WrongState(f"flow {flow_id} is {cached.flow.state} and can't be {done}")
        return cached


def _is_with_workers(flow: Flow, run_id: RunId, attempt: int) -> bool:
    running = flow.running.get(run_id)
    return running is not None and running.attempt == attempt and running.phase is Phase.QUEUED


def _envelopes_of(results: Sequence[Result]) -> tuple[list[Envelope], dict[str, list[Envelope]]]:
    """One envelope for each result: in order, and by flow."""
    in_order: list[Envelope] = []
    by_flow: dict[str, list[Envelope]] = {}
    for result in results:
        envelope = Envelope(_event_of(result))
        in_order.append(envelope)
        by_flow.setdefault(result.flow_id, []).append(envelope)
    return in_order, by_flow


def _event_of(result: Result) -> Completed | Failed:
    if result.error is None:
        return Completed(result.action_id, result.attempt, result.output, result.worker)
    return Failed(result.action_id, result.attempt, result.error, result.worker)
