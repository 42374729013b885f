"""What users see of flows: one, its history, and listings over all partitions. Reads only."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence

import attrs
import trio

from orchy.engine.catalog import Catalog
from orchy.engine.flow_cache import CachedFlow
from orchy.engine.loading import load_flow
from orchy.engine.transition import to_listing
from orchy.errors import DefinitionMissing, InvalidInput, NotFound
from orchy.flow import codec
from orchy.flow.definition import JSON
from orchy.flow.effects import RecordType
from orchy.flow.execution import Phase, State
from orchy.flow.expressions.templates import FlowContext
from orchy.runtime.gather import gather
from orchy.store.flows import FlowStore, ListedFlow, Listing
from orchy.store.limits import HISTORY_ENTRIES_MAX
from orchy.store.quarantine import Quarantine

#: The most flows that one page shows.
PAGE_MAX = 500
#: How many partitions are asked at the same time for a listing.
PARTITIONS_AT_ONCE = 16
#: How often a page is filled up by reading on, when a state was asked for that the index does not know.
READS_PER_PAGE_MAX = 20


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


@attrs.frozen
class HistoryLine:
    """One transition of a flow."""

    time_ms: int
    type: RecordType
    action_id: int | None
    action_name: str | None
    attempt: int | None
    worker: str | None
    detail: JSON


@attrs.frozen
class Page:
    """Some flows, newest first; `cursor` asks for those that follow, None when there are none."""

    flows: tuple[FlowView, ...]
    cursor: str | None


def view_of(cached: CachedFlow) -> FlowView:
    """The whole of a flow."""
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


class Queries:
    """Reads of one namespace."""

    def __init__(self, store: FlowStore, catalog: Catalog, partition_of: Callable[[str], int], partitions: int) -> None:
        self._store = store
        self._catalog = catalog
        self._partition_of = partition_of
        self._partitions = partitions

    async def flow(self, flow_id: str) -> FlowView:
        """One flow, as the store has it now. Raises NotFound."""
        return view_of(await load_flow(self._store, self._partition_of(flow_id), flow_id))

    async def history(self, flow_id: str, start: int = 0, limit: int = HISTORY_ENTRIES_MAX) -> list[HistoryLine]:
        """Every transition of a flow, oldest first, from index `start` on. Raises NotFound."""
        partition = self._partition_of(flow_id)
        entries = await self._store.history(partition, flow_id, start, limit)
        stored = await self._store.load(partition, flow_id)
        if entries is None or stored is None:
            raise NotFound(f"there is no flow {flow_id}")
        meta = codec.decode_meta(stored.fields["m"])
        try:
            actions = (await self._catalog.graph_of_flow(meta.workflow, meta.workflow_version)).workflow.actions
        except DefinitionMissing:
            actions = {}  # what happened is told without names
        lines = []
        for entry in entries:
            letter, action_id, attempt, worker, detail = codec.decode_record(entry.entry)
            action = actions.get(action_id) if attempt else None  # an action's id may be 0, an attempt is not
            lines.append(
                HistoryLine(
                    time_ms=entry.time_ms,
                    type=RecordType(letter),
                    action_id=action_id if attempt else None,
                    action_name=None if action is None else action.name,
                    attempt=attempt or None,
                    worker=worker or None,
                    detail=detail,
                )
            )
        return lines

    async def flows(
        self, name: str | None, state: State | None, limit: int, cursor: str | None, quarantined: bool = False
    ) -> Page:
        """A page of flows, newest first, of one workflow or state where one is given, or of those in quarantine.

        `limit` is at most PAGE_MAX. Raises InvalidInput for a cursor that no page gave out.
        """
        limit = max(1, min(limit, PAGE_MAX))
        before = _decode_cursor(cursor) if cursor else None
        listings = list(Listing) if state is None else [to_listing(state)]
        found: list[FlowView] = []
        for _ in range(READS_PER_PAGE_MAX):
            listed = await self._listed(listings, name, limit, before, quarantined)
            for item in listed:
                view = _listed_view(item)
                before = (view.created_ms, view.id)
                if state in (None, view.state) and name in (None, view.name):
                    found.append(view)
                    if len(found) == limit:
                        return Page(tuple(found), _encode_cursor(*before))
            if len(listed) < limit:
                return Page(tuple(found), None)
        assert before is not None
        return Page(tuple(found), _encode_cursor(*before))

    async def _listed(
        self,
        listings: Sequence[Listing],
        name: str | None,
        limit: int,
        before: tuple[int, str] | None,
        quarantined: bool,
    ) -> list[ListedFlow]:
        """The newest `limit` over all partitions."""
        limiter = trio.CapacityLimiter(PARTITIONS_AT_ONCE)

        async def ask(partition: int) -> list[ListedFlow]:
            async with limiter:
                return await self._store.list_flows(partition, listings, name, limit, before, quarantined)

        pages = await gather(ask, range(self._partitions))
        found = [item for page in pages for item in page]
        found.sort(key=lambda item: (item.created_ms, item.flow_id), reverse=True)
        return found[:limit]


def _listed_view(item: ListedFlow) -> FlowView:
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


def _encode_cursor(created_ms: int, flow_id: str) -> str:
    return base64.urlsafe_b64encode(f"{created_ms}:{flow_id}".encode()).decode().rstrip("=")


def _decode_cursor(cursor: str) -> tuple[int, str]:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        created_ms, flow_id = text.split(":", 1)
        return int(created_ms), flow_id
    except (ValueError, binascii.Error):
        raise InvalidInput(f"{cursor!r} is not a cursor that a listing gave out") from None
