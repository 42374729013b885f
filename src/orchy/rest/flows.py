"""Routes of flows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from quart import Blueprint, Response, request

from orchy.errors import InvalidInput
from orchy.flow.execution import State
from orchy.orchestrator import Orchestrator
from orchy.queries import PAGE_MAX, FlowView, HistoryLine, Queries
from orchy.rest.answers import answer, time_text
from orchy.rest.requests import check_query, query_int, read_fields

PAGE_DEFAULT = 50

_FLOW_FIELDS = {"name": str, "flowId": str}


def routes(orchestrator: Orchestrator, queries: Queries) -> Blueprint:
    """The routes over an orchestrator and its queries."""
    blueprint = Blueprint("flows", __name__)

    @blueprint.post("/flow/execute")
    async def execute() -> Response:
        fields = await read_fields({"name": str}, {"input": None, "version": int, "flowId": str})
        flow_id = await orchestrator.execute(
            fields["name"], fields.get("input", {}), fields.get("version"), fields.get("flowId")
        )
        return answer({"flowId": flow_id})

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
        check_query("name", "state", "limit", "cursor")
        limit = query_int("limit", PAGE_DEFAULT, 1, PAGE_MAX) or PAGE_DEFAULT
        page = await queries.flows(request.args.get("name"), _state(), limit, request.args.get("cursor"))
        return answer({"flows": [_shown(flow) for flow in page.flows], "cursor": page.cursor})

    @blueprint.post("/flow/event")
    async def event() -> Response:
        fields = await read_fields({**_FLOW_FIELDS, "event": str}, {"data": None})
        delivered = await orchestrator.deliver(fields["name"], fields["flowId"], fields["event"], fields.get("data"))
        return answer({"delivered": delivered})

    @blueprint.post("/flow/pause")
    async def pause() -> Response:
        return await _command(orchestrator.pause)

    @blueprint.post("/flow/resume")
    async def resume() -> Response:
        return await _command(orchestrator.resume)

    @blueprint.post("/flow/cancel")
    async def cancel() -> Response:
        return await _command(orchestrator.cancel)

    return blueprint


async def _command(command: Callable[[str, str], Awaitable[FlowView]]) -> Response:
    fields = await read_fields(_FLOW_FIELDS, {})
    view = await command(fields["name"], fields["flowId"])
    return answer({"flowId": view.id, "state": view.state})


def _state() -> State | None:
    text = request.args.get("state")
    if text is None:
        return None
    try:
        return State(text.upper())
    except ValueError:
        raise InvalidInput(f"state must be one of {', '.join(State)}") from None


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
