"""Pages of flows over all partitions, newest first."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence

import attrs
import trio

from orchy.engine.transition import to_listing
from orchy.errors import InvalidInput
from orchy.flow.execution import State
from orchy.runtime.gather import gather
from orchy.store.flows import FlowStore, ListedFlow, Listing
from orchy.views.flow_view import FlowView, view_of_listed

#: The most flows on one page.
PAGE_MAX = 500
#: How many partitions are read concurrently for a listing.
PARTITIONS_AT_ONCE = 16
#: How many reads may fill one page, when the store's index is coarser than the state that is looked for.
READS_PER_PAGE_MAX = 20


@attrs.frozen
class Page:
    """Some flows, newest first. `cursor` leads to the next page; None on the last one."""

    flows: tuple[FlowView, ...]
    cursor: str | None


class FlowListing:
    """Lists the flows of one namespace."""

    def __init__(self, store: FlowStore, partitions: int) -> None:
        self._store = store
        self._partitions = partitions

    async def page(
        self, name: str | None, state: State | None, limit: int, cursor: str | None, quarantined: bool
    ) -> Page:
        """A page of flows that match. Raises InvalidInput for a cursor that no page gave out."""
        limit = max(1, min(limit, PAGE_MAX))
        before = _decode_cursor(cursor) if cursor else None
        listings = list(Listing) if state is None else [to_listing(state)]
        found: list[FlowView] = []
        for _ in range(READS_PER_PAGE_MAX):
            listed = await self._newest(listings, name, limit, before, quarantined)
            for item in listed:
                view = view_of_listed(item)
                before = (view.created_ms, view.id)
                if state in (None, view.state) and name in (None, view.name):
                    found.append(view)
                    if len(found) == limit:
                        return Page(tuple(found), _encode_cursor(*before))
            if len(listed) < limit:
                return Page(tuple(found), None)
        assert before is not None
        return Page(tuple(found), _encode_cursor(*before))

    async def _newest(
        self,
        listings: Sequence[Listing],
        name: str | None,
        limit: int,
        before: tuple[int, str] | None,
        quarantined: bool,
    ) -> list[ListedFlow]:
        """The newest `limit` flows over all partitions, before a position."""
        limiter = trio.CapacityLimiter(PARTITIONS_AT_ONCE)

        async def read(partition: int) -> list[ListedFlow]:
            async with limiter:
                return await self._store.list_flows(partition, listings, name, limit, before, quarantined)

        pages = await gather(read, range(self._partitions))
        found = [item for page in pages for item in page]
        found.sort(key=lambda item: (item.created_ms, item.flow_id), reverse=True)
        return found[:limit]


def _encode_cursor(created_ms: int, flow_id: str) -> str:
    return base64.urlsafe_b64encode(f"{created_ms}:{flow_id}".encode()).decode().rstrip("=")


def _decode_cursor(cursor: str) -> tuple[int, str]:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        created_ms, flow_id = text.split(":", 1)
        return int(created_ms), flow_id
    except (ValueError, binascii.Error):
        raise InvalidInput(f"{cursor!r} is not a cursor that a listing gave out") from None
