"""Loads a flow from the store."""

from __future__ import annotations

from orchy.engine.flow_cache import CachedFlow
from orchy.errors import NotFound
from orchy.flow import codec
from orchy.store.flows import FlowStore


async def load_flow(store: FlowStore, partition: int, flow_id: str) -> CachedFlow:
    """Load a flow. Raises NotFound."""
    stored = await store.load(partition, flow_id)
    if stored is None:
        raise NotFound(f"there is no flow {flow_id}")
    flow = codec.decode_flow(flow_id, stored.fields)
    size_bytes = sum(map(len, stored.fields.values()))
    return CachedFlow(flow, stored.version, stored.created_ms, stored.ended_ms, size_bytes, stored.quarantine)
