"""Routes of flows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from quart import Blueprint, Response, request

from orchy.engine.flow_cache import CachedFlow
from orchy.engine.orchestrator import Orchestrator
from orchy.engine.start_commits import StartOutcome
from orchy.engine.starts import STARTS_MAX, StartRequest, Starts
from orchy.errors import InvalidInput, OrchyError, OutcomeUnknown, Problem, StoreError, WrongState
from orchy.flow.definition import JSON
from orchy.flow.execution import State
from orchy.flow.json.scan import Where
from orchy.flow.json.text import pointer
from orchy.rest.answers import answer, problem_json, time_text, told
from orchy.rest.requests import check_query, fields_of, parse_body, query_int, read_body, read_fields
from orchy.views.queries import PAGE_MAX, FlowView, HistoryLine, Queries

PAGE_DEFAULT = 50
#: Of what is said when a flow is released; the history keeps it.
REASON_CHARACTERS_MAX = 1_000

_FLOW_FIELDS = {"name": str, "flowId": str}


def routes(starts: Starts, orchestrator: Orchestrator, queries: Queries) -> Blueprint:
    """The routes over an orchestrator, its queries and the catalog."""
    blueprint = Blueprint("flows", __name__)

    @blueprint.post("/flow/execute")
    async def execute_one_or_many() -> Response:
        return answer(await execute(starts, await read_body()))

    @blueprint.get("/flow/<flow_id>")
    async def show(flow_id: str) -> Response:
        check_query()
        return answer(_shown(await queries.flow(flow_id)))

    @blueprint.get("/flow/<flow_id>/history")
    async def history(flow_id: str) -> Response:
        check_query()
        lines = await queries.history(flow_id)
        return answer({"flowId": flow_id, "history": [_shown_line(line) for line in lines]})

    @blueprint.get("/flow")
    async def list_page() -> Response:
        check_query("name", "state", "limit", "cursor", "quarantined")
        limit = query_int("limit", PAGE_DEFAULT, 1, PAGE_MAX) or PAGE_DEFAULT
        page = await queries.flows(
            request.args.get("name"), _state(), limit, request.args.get("cursor"), _quarantined()
        )
        return answer({"flows": [_shown(flow) for flow in page.flows], "cursor": page.cursor})

    @blueprint.post("/flow/event")
    async def event() -> Response:
        fields = await read_fields({**_FLOW_FIELDS, "event": str}, {"data": None, "id": str})
        delivery = await orchestrator.deliver(
            fields["name"], fields["flowId"], fields["event"], fields.get("data"), fields.get("id")
        )
        shown: dict[str, Any] = {"delivered": delivery.delivered}
        if delivery.duplicate:
            shown["duplicate"] = True
        elif not delivery.delivered and (
            warnings := await orchestrator.event_warnings(fields["flowId"], fields["event"])
        ):
            shown["warnings"] = [problem_json(warning) for warning in warnings]
        return answer(shown)

    @blueprint.post("/flow/pause")
    async def pause() -> Response:
        return await _command(orchestrator.pause)

    @blueprint.post("/flow/resume")
    async def resume() -> Response:
        return await _command(orchestrator.resume)

    @blueprint.post("/flow/cancel")
    async def cancel() -> Response:
        return await _command(orchestrator.cancel)

    @blueprint.post("/flow/release")
    async def release() -> Response:
        fields = await read_fields({"flowId": str, "reason": str}, {})
        reason = fields["reason"].strip()
        if not 0 < len(reason) <= REASON_CHARACTERS_MAX:
            raise InvalidInput(f"a reason has from 1 to {REASON_CHARACTERS_MAX:,} characters")
        await orchestrator.release(fields["flowId"], reason)
        return answer({"flowId": fields["flowId"], "released": True})

    return blueprint


async def execute(starts: Starts, body: bytes) -> JSON:
    """StartRequest the flow, or the flows, that a body asks for; what is answered. Raises from OrchyError."""
    wanted = await parse_body(body)
    if isinstance(wanted, list):
        requests = _starts(wanted)
        started = iter(await starts.start_many([one for one in requests if isinstance(one, StartRequest)]))
        return _batch_answer([next(started) if isinstance(one, StartRequest) else one for one in requests])
    return _begun(await starts.start(_start(wanted)))


def _begun(begun: StartOutcome) -> dict[str, JSON]:
    return {"flowId": begun.flow_id, "created": begun.created}


def _start(wanted: JSON, where: Where = ()) -> StartRequest:
    fields = fields_of(wanted, {"name": str}, {"input": None, "version": int, "flowId": str}, where)
    return StartRequest(fields["name"], fields.get("input", {}), fields.get("version"), fields.get("flowId"))


def _starts(batch: list[JSON]) -> list[StartRequest | InvalidInput]:
    """The starts of a batch, or what is wrong with each. Raises InvalidInput when it is none."""
    if not 1 <= len(batch) <= STARTS_MAX:
        raise InvalidInput(f"a batch is a list of 1 to {STARTS_MAX:,} objects, this one has {len(batch):,}")
    strays = [index for index, item in enumerate(batch) if not isinstance(item, dict)]
    if strays:
        problems = [Problem("a start must be a JSON object", pointer((index,))) for index in strays]
        raise InvalidInput("a batch is a list of objects", problems)
    starts: list[StartRequest | InvalidInput] = []
    for index, item in enumerate(batch):
        try:
            starts.append(_start(item, (index,)))
        except InvalidInput as error:
            starts.append(error)
    return starts


def _batch_answer(outcomes: Sequence[StartOutcome | OrchyError]) -> JSON:
    """Each start's own answer. Raises when the store was to blame for all and nothing can have been started."""
    failures = [one for one in outcomes if isinstance(one, StoreError)]
    if failures and not any(isinstance(one, StartOutcome | OutcomeUnknown) for one in outcomes):
        raise failures[0]
    answers: list[JSON] = []
    for index, outcome in enumerate(outcomes):
        if isinstance(outcome, StartOutcome):
            answers.append(_begun(outcome))
        else:
            status, body = told(outcome, (index,) if isinstance(outcome, WrongState) else ())
            answers.append({**body, "status": status})
    return answers


async def _command(command: Callable[[str, str], Awaitable[CachedFlow]]) -> Response:
    fields = await read_fields(_FLOW_FIELDS, {})
    flow = (await command(fields["name"], fields["flowId"])).flow
    return answer({"flowId": flow.id, "state": flow.state})


def _state() -> State | None:
    text = request.args.get("state")
    if text is None:
        return None
    try:
        return State(text.upper())
    except ValueError:
        raise InvalidInput(f"state must be one of {', '.join(State)}") from None


def _quarantined() -> bool:
    text = request.args.get("quarantined", "false").lower()
    if text not in ("true", "false"):
        raise InvalidInput("quarantined must be true or false")
    return text == "true"


def _shown(flow: FlowView) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "id": flow.id,
        "name": flow.name,
        "version": flow.version,
        "state": flow.state,
        "error": flow.error,
        "createdAt": time_text(flow.created_ms),
        "endedAt": time_text(flow.ended_ms),
    }
    if flow.quarantine is not None:
        shown["quarantined"] = {"since": time_text(flow.quarantine.since_ms), "error": flow.quarantine.error}
    if flow.data is not None:  # not in listings
        shown |= {
            "runningActions": flow.running_actions,
            "completedActions": flow.completed_actions,
            "waitingOnEvent": flow.waiting_on_event,
            "data": flow.data,
        }
    return shown


def _shown_line(line: HistoryLine) -> dict[str, Any]:
    first, *rest = line.type.name.lower().split("_")
    shown = {
        "time": time_text(line.time_ms),
        "type": first + "".join(map(str.capitalize, rest)),
        "actionId": line.action_id,
        "actionName": line.action_name,
        "attempt": line.attempt,
        "worker": line.worker,
        "detail": line.detail,
    }
    return {name: value for name, value in shown.items() if value is not None}
