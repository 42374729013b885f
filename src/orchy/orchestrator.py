"""The use cases: what users, workers and timers ask of flows. How a flow is moved stands in `mover`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from uuid import UUID, uuid4

from msgspec import Struct

from orchy.actions.javascript.port import JavaScriptEngine
from orchy.catalog import Catalog
from orchy.errors import InvalidInput, NotFound, OrchyError, OutcomeUnknown, StoreUnavailable, WrongState
from orchy.flow import codec
from orchy.flow.definition import DEFAULT_TIMEOUT_SECONDS, JSON
from orchy.flow.effects import Record, RecordType
from orchy.flow.events import Cancel, Completed, EventReceived, Failed, Pause, Resume, TimerFired, TimerKind
from orchy.flow.execution import Flow, Phase
from orchy.flow.graph import Graph
from orchy.flow.machine import Verdict
from orchy.flow.system import SystemAction
from orchy.mailbox import Letter
from orchy.mover import FLOWS_AT_ONCE, GROUPS_AT_ONCE, Mover
from orchy.ports import NoTakers, Observer, Takers, Wakeups
from orchy.queries import FlowView, view_of
from orchy.store.base import BATCH_MAX, DueTimer, FlowStore, TimerKey, TimerSetting
from orchy.tasks import Together, gather
from orchy.transition import EncodeAction

_FLOW_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class Result(Struct, frozen=True):
    """What a worker says of one attempt: its output, or (`error` given) its failure."""

    flow_id: str
    action_id: int
    attempt: int
    output: JSON = None
    error: str | None = None
    worker: str = ""


class Orchestrator:
    """What can be asked of flows. Safe to use from many tasks."""

    def __init__(
        self,
        *,
        store: FlowStore,
        catalog: Catalog,
        system_actions: Mapping[str, SystemAction],
        engine: JavaScriptEngine,
        encode_action: EncodeAction,
        partition_of: Callable[[str], int],
        wakeups: Wakeups,
        observer: Observer,
        retention_seconds: float,
        takers: Takers | None = None,
        default_timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
        batch_size: int = BATCH_MAX,
        new_uuid: Callable[[], UUID] = uuid4,
    ) -> None:
        self._store = store
        self._catalog = catalog
        self._partition_of = partition_of
        self._observer = observer
        self._default_timeout_seconds = default_timeout_seconds
        self._new_uuid = new_uuid
        self._wakeups = wakeups
        self._starts: Together[tuple[Graph, JSON, str | None], str] = Together(self.start_all)
        self._mover = Mover(
            store=store,
            catalog=catalog,
            system_actions=system_actions,
            engine=engine,
            encode_action=encode_action,
            partition_of=partition_of,
            wakeups=wakeups,
            takers=takers or NoTakers(),
            observer=observer,
            retain_ms=round(retention_seconds * 1000),
            default_timeout_seconds=default_timeout_seconds,
            batch_size=batch_size,
        )

    # What users ask for.

    async def execute(self, name: str, input: JSON, version: int | None = None, flow_id: str | None = None) -> str:
        """Start a flow and answer its id; it is durable then. A `flow_id` that exists starts nothing.

        Raises NotFound (workflow or version), InvalidInput (`flow_id`), and what the store raises.
        """
        return await self.start(await self._catalog.graph_to_start(name, version), input, flow_id)

    async def start(self, graph: Graph, input: JSON, flow_id: str | None = None) -> str:
        """The same on a workflow that the caller has looked up."""
        return await self._starts.do((graph, input, flow_id))

    async def start_all(self, wanted: Sequence[tuple[Graph, JSON, str | None]]) -> list[str | OrchyError]:
        """Many of these, side by side: the id of each, or why it was not started, in their order."""
        outcomes: list[str | OrchyError] = []
        flows: dict[str, tuple[Graph, Flow]] = {}  # of several with one id, the first
        for graph, input, flow_id in wanted:
            try:
                flow = self._new_flow(graph, input, flow_id)
            except InvalidInput as error:
                outcomes.append(error)
            else:
                outcomes.append(flow.id)
                flows.setdefault(flow.id, (graph, flow))
        left = list(flows.values())
        groups = [left[first : first + FLOWS_AT_ONCE] for first in range(0, len(left), FLOWS_AT_ONCE)]
        unreached = False

        async def start(group: Sequence[tuple[Graph, Flow]]) -> Sequence[OrchyError | None]:
            nonlocal unreached
            if unreached:
                not_begun = "not begun, as the store was not reached for another start of the batch"
                return [StoreUnavailable(not_begun)] * len(group)
            errors = await self._mover.start_all(group)
            unreached = any(isinstance(error, StoreUnavailable | OutcomeUnknown) for error in errors)
            return errors

        reasons = [reason for group in await gather(start, groups, GROUPS_AT_ONCE) for reason in group]
        refused = {flow_id: reason for flow_id, reason in zip(flows, reasons, strict=True) if reason is not None}
        return [outcome if isinstance(outcome, OrchyError) else refused.get(outcome, outcome) for outcome in outcomes]

    def _new_flow(self, graph: Graph, input: JSON, flow_id: str | None) -> Flow:
        if flow_id is not None:
            check_flow_id(flow_id)
        return Flow(flow_id or str(self._new_uuid()), graph.workflow.name, graph.workflow.version, input)

    async def push(self, result: Result) -> Verdict | None:
        """Take a worker's result in. None: there is no such flow (it may have been removed after its end).

        Raises InvalidInput for an action that the flow does not have, and what the store raises; then the
        result may be pushed again.
        """
        try:
            verdict = (await self._mover.post(result.flow_id, Letter(_event_of(result))))[0]
        except NotFound:
            self._observer.result_taken("unknown")
            return None
        self._observer.result_taken(verdict)
        return verdict

    async def push_all(self, results: Sequence[Result]) -> list[Verdict | OrchyError | None]:
        """Take in many of these, side by side: what `push` would answer or raise, in their order."""
        letters: dict[str, list[Letter]] = {}
        in_order: list[Letter] = []
        for result in results:
            letter = Letter(_event_of(result))
            in_order.append(letter)
            letters.setdefault(result.flow_id, []).append(letter)
        await self._mover.post_all(letters)
        answers: list[Verdict | OrchyError | None] = []
        for letter in in_order:
            answer = None if isinstance(letter.answer, NotFound) else letter.answer
            if not isinstance(answer, OrchyError):
                self._observer.result_taken("unknown" if answer is None else answer)
            answers.append(answer)
        return answers

    async def extend(self, flow_id: str, action_id: int, attempt: int) -> bool:
        """Let an attempt that was handed out have its whole time again, from now on; False if it is over.

        Raises what the store raises.
        """
        try:
            flow = (await self._mover.flow(flow_id)).flow
            if not _is_with_workers(flow, action_id, attempt):  # as this node saw it last: another one may know better
                flow = (await self._mover.flow(flow_id, seen=False)).flow
            graph = await self._catalog.graph(flow.workflow, flow.workflow_version)
        except NotFound:
            return False
        if not _is_with_workers(flow, action_id, attempt):
            return False
        definition = (await self._catalog.definitions()).get(graph.workflow.actions[action_id].name)
        seconds = (definition and definition.timeout_seconds) or self._default_timeout_seconds
        timer = TimerSetting(TimerKey(TimerKind.TIMEOUT, action_id, attempt, flow_id), math.ceil(seconds * 1000))
        return await self._store.extend(self._partition_of(flow_id), timer)

    async def deliver(self, name: str, flow_id: str, event: str, data: JSON) -> bool:
        """Give a flow an event: True if a wait took it, False if it is kept for one to come.

        Raises NotFound, WrongState (the flow is over), InvalidInput (too many are kept).
        """
        letter = Letter(EventReceived(event, data, self._new_uuid().hex[:16]), name)
        verdict, cached = await self._mover.post(flow_id, letter)
        if verdict is Verdict.REFUSED:
            raise WrongState(f"flow {flow_id} is {cached.flow.state} and takes no events")
        return verdict is not Verdict.KEPT

    async def pause(self, name: str, flow_id: str) -> FlowView:
        """Start nothing new. Pausing twice is as good as once. Raises NotFound, WrongState (it is over)."""
        return await self._command(name, flow_id, Pause(), "paused")

    async def resume(self, name: str, flow_id: str) -> FlowView:
        """Go on after a pause; without one nothing changes. Raises NotFound, WrongState (it is over)."""
        return await self._command(name, flow_id, Resume(), "resumed")

    async def cancel(self, name: str, flow_id: str) -> FlowView:
        """End a flow now. Cancelling twice is as good as once. Raises NotFound, WrongState (it ended otherwise)."""
        return await self._command(name, flow_id, Cancel(), "cancelled")

    async def release(self, flow_id: str, reason: str) -> None:
        """End a flow's quarantine: the timers that were set aside are due now.

        Raises NotFound, WrongState (it is in none), and what the store raises.
        """
        partition = self._partition_of(flow_id)
        entry = codec.encode_record(Record(RecordType.RELEASED, detail=reason))
        released = await self._store.release_flow(partition, flow_id, entry)
        if released is None:
            raise NotFound(f"there is no flow {flow_id}")
        if not released:
            raise WrongState(f"flow {flow_id} is not in quarantine")
        self._wakeups.timer_set(partition, 0)

    async def fire(self, due: DueTimer) -> None:
        """Handle a timer that is due. If it can't be (an error is raised), the store brings it back."""
        key = due.key
        try:
            verdict, _ = await self._mover.post(key.flow_id, Letter(TimerFired(key.kind, key.action_id, key.attempt)))
        except NotFound:
            verdict = Verdict.STALE
        if verdict is Verdict.STALE:
            await self._store.cancel_timers(due.partition, [key])

    async def _command(self, name: str, flow_id: str, command: Pause | Resume | Cancel, done: str) -> FlowView:
        verdict, cached = await self._mover.post(flow_id, Letter(command, name))
        if verdict is Verdict.REFUSED:
            raise WrongState(f"flow {flow_id} is {cached.flow.state} and can't be {done}")
        return view_of(cached)


def _is_with_workers(flow: Flow, action_id: int, attempt: int) -> bool:
    running = flow.running.get(action_id)
    return running is not None and running.attempt == attempt and running.phase is Phase.QUEUED


def _event_of(result: Result) -> Completed | Failed:
    if result.error is None:
        return Completed(result.action_id, result.attempt, result.output, result.worker)
    return Failed(result.action_id, result.attempt, result.error, result.worker)


def check_flow_id(flow_id: str) -> None:
    """Raises InvalidInput unless it is 1-128 of A-Z a-z 0-9 . _ - and begins with a letter or digit."""
    if not _FLOW_ID.fullmatch(flow_id):
        raise InvalidInput(
            "a flowId is 1 to 128 of the characters A-Z a-z 0-9 . _ - and begins with a letter or a digit"
        )
