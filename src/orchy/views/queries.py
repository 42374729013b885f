"""Queries of flows: one flow, its history, and listings."""

from __future__ import annotations

from collections.abc import Callable

from orchy.engine.catalog import Catalog
from orchy.engine.loading import load_flow
from orchy.errors import DefinitionMissing, NotFound
from orchy.flow import codec
from orchy.flow.execution import State
from orchy.store.flows import FlowStore
from orchy.store.limits import HISTORY_ENTRIES_MAX
from orchy.views.flow_view import FlowView, view_of
from orchy.views.history import HistoryLine, line_of
from orchy.views.listing import FlowListing, Page


class Queries:
    """Queries of one namespace."""

    def __init__(self, store: FlowStore, catalog: Catalog, partition_of: Callable[[str], int], partitions: int) -> None:
        self._store = store
        self._catalog = catalog
        self._partition_of = partition_of
        self._listing = FlowListing(store, partitions)

    async def flow(self, flow_id: str) -> FlowView:
        """One flow, as the store has it now. Raises NotFound."""
        return view_of(await load_flow(self._store, self._partition_of(flow_id), flow_id))

    async def history(self, flow_id: str, start: int = 0, limit: int = HISTORY_ENTRIES_MAX) -> list[HistoryLine]:
        """The history of a flow, oldest entries first, from index `start` on. Raises NotFound."""
        partition = self._partition_of(flow_id)
        entries = await self._store.history(partition, flow_id, start, limit)
        stored = await self._store.load(partition, flow_id)
        if entries is None or stored is None:
            raise NotFound(f"there is no flow {flow_id}")
        meta = codec.decode_meta(stored.fields["m"])
        try:
            actions = (await self._catalog.graph_of_flow(meta.workflow, meta.workflow_version)).workflow.actions
        except DefinitionMissing:
            actions = {}  # the history is shown without names
        return [line_of(entry, actions) for entry in entries]

    async def flows(
        self, name: str | None, state: State | None, limit: int, cursor: str | None, quarantined: bool = False
    ) -> Page:
        """A page of flows, newest first: all, or those of a workflow, in a state, or in quarantine.

        `limit` is at most PAGE_MAX. Raises InvalidInput for a cursor that no page gave out.
        """
        return await self._listing.page(name, state, limit, cursor, quarantined)
