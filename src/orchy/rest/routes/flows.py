"""Routes of flows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from msgspec import UNSET
from quart import Blueprint

from orchy.engine.flow_cache import CachedFlow
from orchy.engine.orchestrator import Orchestrator
from orchy.engine.start_commits import StartOutcome
from orchy.engine.starts import STARTS_MAX, Starts
from orchy.errors import InvalidInput, OrchyError, OutcomeUnknown, Problem, StoreError, WrongState
from orchy.flow.definition import JSON
from orchy.flow.json.text import pointer
from orchy.rest.middleware.errors import error_response
from orchy.rest.operations import operation
from orchy.rest.requests import decode, parse_body
from orchy.rest.responses import problem_bodies, time_text
from orchy.rest.schemas import (
    HISTORY_TYPES,
    REASON_CHARACTERS_MAX,
    CommandOutcome,
    CommandRequest,
    EventDelivery,
    EventRequest,
    Flow,
    FlowPage,
    FlowsQuery,
    History,
    HistoryEntry,
    NoQuery,
    NotStarted,
    Quarantined,
    Released,
    ReleaseRequest,
    Started,
    StartRequest,
)
from orchy.views.flow_view import FlowView
from orchy.views.history import HistoryLine
from orchy.views.queries import Queries


def routes(starts: Starts, orchestrator: Orchestrator, queries: Queries) -> Blueprint:
    """The routes over what starts flows, what moves them, and what reads them."""
    blueprint = Blueprint("flows", __name__)

    @blueprint.post("/flow/execute")
    @operation(
        "Start a flow, or each flow of a list",
        raw_body=StartRequest | list[StartRequest],
        answer=Started | list[Started | NotStarted],
        errors=(404, 409),
    )
    async def start(body: bytes) -> Started | list[Started | NotStarted]:
        return await execute(starts, body)

    @blueprint.get("/flow/<flow_id>")
    @operation("Show a flow", query=NoQuery, answer=Flow, errors=(404,))
    async def show(flow_id: str, query: NoQuery) -> Flow:
        return _flow(await queries.flow(flow_id))

    @blueprint.get("/flow/<flow_id>/history")
    @operation("Show what happened to a flow", query=NoQuery, answer=History, errors=(404,))
    async def history(flow_id: str, query: NoQuery) -> History:
        return History(flow_id, [_entry(line) for line in await queries.history(flow_id)])

    @blueprint.get("/flow")
    @operation("List flows, newest first", query=FlowsQuery, answer=FlowPage)
    async def list_page(query: FlowsQuery) -> FlowPage:
        page = await queries.flows(query.name, query.state, query.limit, query.cursor, query.quarantined)
        return FlowPage([_flow(flow) for flow in page.flows], page.cursor)

    @blueprint.post("/flow/event")
    @operation("Send an event to a flow", body=EventRequest, answer=EventDelivery, errors=(404, 409))
    async def send_event(body: EventRequest) -> EventDelivery:
        delivery = await orchestrator.deliver(body.name, body.flow_id, body.event, body.data, body.id)
        if delivery.duplicate:
            return EventDelivery(delivery.delivered, duplicate=True)
        if delivery.delivered:
            return EventDelivery(delivered=True)
        warnings = await orchestrator.event_warnings(body.flow_id, body.event)
        return EventDelivery(delivered=False, warnings=problem_bodies(warnings) or UNSET)

    @blueprint.post("/flow/pause")
    @operation("Pause a flow", body=CommandRequest, answer=CommandOutcome, errors=(404, 409))
    async def pause(body: CommandRequest) -> CommandOutcome:
        return await _command(orchestrator.pause, body)

    @blueprint.post("/flow/resume")
    @operation("Resume a flow that is paused", body=CommandRequest, answer=CommandOutcome, errors=(404, 409))
    async def resume(body: CommandRequest) -> CommandOutcome:
        return await _command(orchestrator.resume, body)

    @blueprint.post("/flow/cancel")
    @operation("Cancel a flow", body=CommandRequest, answer=CommandOutcome, errors=(404, 409))
    async def cancel(body: CommandRequest) -> CommandOutcome:
        return await _command(orchestrator.cancel, body)

    @blueprint.post("/flow/release")
    @operation("Release a flow from quarantine", body=ReleaseRequest, answer=Released, errors=(404, 409))
    async def release(body: ReleaseRequest) -> Released:
        reason = body.reason.strip()
        if not 0 < len(reason) <= REASON_CHARACTERS_MAX:
            raise InvalidInput(f"a reason has from 1 to {REASON_CHARACTERS_MAX:,} characters")
        await orchestrator.release(body.flow_id, reason)
        return Released(body.flow_id, released=True)

    return blueprint


async def execute(starts: Starts, body: bytes) -> Started | list[Started | NotStarted]:
    """Start the flow, or the flows, that a body asks for; what is answered. Raises from OrchyError."""
    value = await parse_body(body)
    if not isinstance(value, list):
        return _started(await starts.start(decode(StartRequest, value)))
    requests = _batch(value)
    outcomes = iter(await starts.start_many([one for one in requests if isinstance(one, StartRequest)]))
    return _batch_answer([next(outcomes) if isinstance(one, StartRequest) else one for one in requests])


def _started(outcome: StartOutcome) -> Started:
    return Started(outcome.flow_id, outcome.created)


def _batch(items: list[JSON]) -> list[StartRequest | InvalidInput]:
    """The starts of a batch, or what is wrong with each. Raises InvalidInput when it is none."""
    if not 1 <= len(items) <= STARTS_MAX:
        raise InvalidInput(f"a batch is a list of 1 to {STARTS_MAX:,} objects, this one has {len(items):,}")
    strays = [index for index, item in enumerate(items) if not isinstance(item, dict)]
    if strays:
        problems = [Problem("a start must be a JSON object", pointer((index,))) for index in strays]
        raise InvalidInput("a batch is a list of objects", problems)
    requests: list[StartRequest | InvalidInput] = []
    for index, item in enumerate(items):
        try:
            requests.append(decode(StartRequest, item, (index,)))
        except InvalidInput as error:
            requests.append(error)
    return requests


def _batch_answer(outcomes: Sequence[StartOutcome | OrchyError]) -> list[Started | NotStarted]:
    """Each start's own answer. Raises when the store was to blame for all and nothing can have been started."""
    failures = [one for one in outcomes if isinstance(one, StoreError)]
    if failures and not any(isinstance(one, StartOutcome | OutcomeUnknown) for one in outcomes):
        raise failures[0]
    answers: list[Started | NotStarted] = []
    for index, outcome in enumerate(outcomes):
        if isinstance(outcome, StartOutcome):
            answers.append(_started(outcome))
        else:
            response = error_response(outcome, (index,) if isinstance(outcome, WrongState) else ())
            answers.append(NotStarted(response.body.error, response.body.details, response.status))
    return answers


async def _command(command: Callable[[str, str], Awaitable[CachedFlow]], body: CommandRequest) -> CommandOutcome:
    flow = (await command(body.name, body.flow_id)).flow
    return CommandOutcome(flow.id, flow.state)


def _flow(flow: FlowView) -> Flow:
    is_listed = flow.data is None
    return Flow(
        id=flow.id,
        name=flow.name,
        version=flow.version,
        state=flow.state,
        error=flow.error,
        created_at=time_text(flow.created_ms),
        ended_at=None if flow.ended_ms is None else time_text(flow.ended_ms),
        quarantined=Quarantined(time_text(flow.quarantine.since_ms), flow.quarantine.error)
        if flow.quarantine is not None
        else UNSET,
        running_actions=UNSET if is_listed else flow.running_actions,
        completed_actions=UNSET if is_listed else flow.completed_actions,
        waiting_on_event=UNSET if is_listed else flow.waiting_on_event,
        data=UNSET if flow.data is None else flow.data,
    )


def _entry(line: HistoryLine) -> HistoryEntry:
    return HistoryEntry(
        time=time_text(line.time_ms),
        type=HISTORY_TYPES[line.type],
        action_id=line.action_id,
        action_name=line.action_name,
        attempt=line.attempt,
        worker=line.worker,
        detail=line.detail,
    )
