"""The flow cache: bounded in number and size, and without flows whose id may belong to another by now."""

from __future__ import annotations

import pytest
import trio

from orchy.engine.flow_cache import FRESH_SECONDS, CachedFlow, FlowCache
from orchy.flow.execution import Flow
from orchy.store.limits import REMEMBERED_MS


def cached(number, version=1, size_bytes=10):
    return CachedFlow(Flow(f"flow-{number}", "orders", 1, None), version, 0, None, size_bytes)


async def test_the_least_recently_used_gives_way(autojump_clock):
    cache = FlowCache(flows_max=2)
    for number in (1, 2):
        cache.put(cached(number))
    assert cache.get("flow-1") == cached(1)
    cache.put(cached(3))
    assert [cache.get(f"flow-{number}") is not None for number in (1, 2, 3)] == [True, False, True]


@pytest.mark.parametrize("size_bytes", [34, 100])
async def test_large_flows_take_the_room_of_many(autojump_clock, size_bytes):
    cache = FlowCache(bytes_max=100)
    for number in range(5):
        cache.put(cached(number, size_bytes=size_bytes))
    assert len(cache) == 100 // size_bytes


async def test_a_large_flow_counts_as_what_it_takes_in_memory(autojump_clock):
    cache = FlowCache(bytes_max=64 * 2**20)
    for number in range(100):
        cache.put(cached(number, size_bytes=512 * 1024))
    assert len(cache) == 8
    cache.put(cached(0, size_bytes=8 * 2**20))
    assert cache.get("flow-0") is None
    assert len(cache) == 8, "one that is too large makes no other one give way"


async def test_what_was_seen_long_ago_is_loaded_again(autojump_clock):
    cache = FlowCache()
    cache.put(cached(1))
    await trio.sleep(FRESH_SECONDS - 1)
    assert cache.get("flow-1") == cached(1)
    await trio.sleep(2)  # a use of the cached flow does not make it fresh
    assert cache.get("flow-1") is None
    assert len(cache) == 0
    assert 2 * FRESH_SECONDS <= REMEMBERED_MS / 1000
