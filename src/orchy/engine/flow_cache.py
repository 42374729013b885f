"""A cache of flows at the version at which this node last saw them, so that most steps need no load.

A cached flow may be outdated: the commit made from it is refused then, and the flow is loaded again. It is never so old
that its id may belong to another flow by now. The cache is bounded by the size of the flows and evicts the least
recently used.
"""

from __future__ import annotations

from collections import OrderedDict

import trio
from msgspec import Struct

from orchy.flow.execution import Flow
from orchy.store.limits import REMEMBERED_MS
from orchy.store.quarantine import Quarantine

FLOWS_MAX = 10_000
#: A flow that was seen longer ago is loaded again: it may have been removed and its id reused.
FRESH_SECONDS = REMEMBERED_MS / 1000 / 2
FLOWS_BYTES_MAX = 64 * 2**20
#: In memory a value takes many times the size of its JSON: a flow larger than LARGE_BYTES counts LARGE_TIMES its size,
#: and is not kept if that is more than PART_MAX of the cache.
LARGE_BYTES = 64 * 1024
LARGE_TIMES = 16
PART_MAX = 0.25


class CachedFlow(Struct, frozen=True):
    """A flow with the store's own data on it. `size_bytes` is the approximate size of its fields in the store."""

    flow: Flow
    version: int
    created_ms: int
    ended_ms: int | None
    size_bytes: int
    quarantine: Quarantine | None = None  # as it was when the flow was loaded


class FlowCache:
    """An LRU cache of flows by id, bounded in number and size."""

    def __init__(self, flows_max: int = FLOWS_MAX, bytes_max: int = FLOWS_BYTES_MAX) -> None:
        self._flows_max = flows_max
        self._bytes_max = bytes_max
        self._bytes = 0
        self._flows: OrderedDict[str, CachedFlow] = OrderedDict()
        self._seen_at: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._flows)

    def get(self, flow_id: str) -> CachedFlow | None:
        """The flow as it was last seen, if it is still cached and fresh."""
        cached = self._flows.get(flow_id)
        if cached is None:
            return None
        if trio.current_time() - self._seen_at[flow_id] > FRESH_SECONDS:
            self.drop(flow_id)
            return None
        self._flows.move_to_end(flow_id)
        return cached

    def put(self, cached: CachedFlow) -> None:
        """Cache a flow, replacing its older version."""
        self.drop(cached.flow.id)
        if _weight(cached) > self._bytes_max * PART_MAX and cached.size_bytes > LARGE_BYTES:
            return
        self._flows[cached.flow.id] = cached
        self._seen_at[cached.flow.id] = trio.current_time()
        self._bytes += _weight(cached)
        while self._bytes > self._bytes_max or len(self._flows) > self._flows_max:
            self.drop(next(iter(self._flows)))

    def clear(self) -> None:
        """Drop all flows."""
        self._flows.clear()
        self._seen_at.clear()
        self._bytes = 0

    def drop(self, flow_id: str) -> None:
        """Drop a flow, if it is cached."""
        cached = self._flows.pop(flow_id, None)
        if cached is not None:
            self._bytes -= _weight(cached)
            del self._seen_at[flow_id]


def _weight(cached: CachedFlow) -> int:
    return cached.size_bytes * (LARGE_TIMES if cached.size_bytes > LARGE_BYTES else 1)
