"""A flow as users see it."""

from __future__ import annotations

import attrs

from orchy.engine.flow_cache import CachedFlow
from orchy.flow import codec
from orchy.flow.definition import JSON
from orchy.flow.execution import Phase, State
from orchy.flow.expressions.templates import FlowContext
from orchy.store.flows import ListedFlow
from orchy.store.quarantine import Quarantine


@attrs.frozen
class FlowView:
    """A flow as users see it. `data` is None in listings; times are milliseconds since 1970 by the store's clock."""

    id: str
    name: str
    version: int
    state: State
    running_actions: tuple[int, ...]
    completed_actions: tuple[int, ...]
    waiting_on_event: str | None
    data: dict[str, JSON] | None
    error: str | None
    created_ms: int
    ended_ms: int | None
    quarantine: Quarantine | None = None


def view_of(cached: CachedFlow) -> FlowView:
    """The view of a loaded flow."""
    flow = cached.flow
    waits = [running.event for _, running in sorted(flow.running.items()) if running.phase is Phase.WAIT]
    return FlowView(
        id=flow.id,
        name=flow.workflow,
        version=flow.workflow_version,
        state=flow.state,
        running_actions=tuple(sorted(flow.running)),
        completed_actions=tuple(sorted(flow.finished)),
        waiting_on_event=waits[0] if waits else None,
        data=FlowContext(flow.input, flow.finished).as_json(),
        error=flow.error,
        created_ms=cached.created_ms,
        ended_ms=cached.ended_ms,
        quarantine=cached.quarantine,
    )


def view_of_listed(item: ListedFlow) -> FlowView:
    """The view of a flow in a listing, which has only its `Meta`."""
    meta = codec.decode_meta(item.meta)
    return FlowView(
        id=item.flow_id,
        name=meta.workflow,
        version=meta.workflow_version,
        state=meta.state,
        running_actions=(),
        completed_actions=(),
        waiting_on_event=None,
        data=None,
        error=meta.error,
        created_ms=item.created_ms,
        ended_ms=item.ended_ms,
        quarantine=item.quarantine,
    )
