"""The store's list of nodes: which processes belong to the cluster, and which one holds a name."""

from __future__ import annotations

import pytest
import trio

from orchy.cluster.registry import Registry, is_instance_of, new_instance
from orchy.cluster.timing import REGISTRY_TIMING as TIMING
from orchy.errors import StartupError, StoreUnavailable
from orchy.store.memory.store import MemoryStore


def test_an_instance_belongs_to_its_addresses():
    instance = new_instance("g:1", "r:2", "h:3")
    assert instance != new_instance("g:1", "r:2", "h:3")
    assert is_instance_of(instance, "g:1", "r:2", "h:3")
    for addresses in [("g:1", "r:9", "h:3"), ("g:1", "r:2", "h:4"), ("g:2", "r:2", "h:3"), ("g:1", "r:2")]:
        assert not is_instance_of(instance, *addresses)
    for noise in ("", "x", instance[:-1], instance + "0", "0" * 32):
        assert not is_instance_of(noise, "g:1", "r:2", "h:3")


class Counted:
    """A store that counts reads, and may be unreachable."""

    def __init__(self, store):
        self.store, self.reads, self.unreachable = store, 0, False

    async def register(self, *args):
        self.reads += 1
        if self.unreachable:
            raise StoreUnavailable("unreachable")
        return await self.store.register(*args)

    async def unregister(self, *args):
        await self.store.unregister(*args)


@pytest.fixture
def counted():
    return Counted(MemoryStore(clock=trio.current_time))


@pytest.fixture
async def registry(counted, nursery):
    made = Registry(counted, "me", "i", "me:1")
    await nursery.start(made.run)
    return made


async def test_processes_in_the_list_belong_to_the_cluster(autojump_clock, counted, registry):
    read = []
    registry.on_read = lambda nodes: read.append([node.node for node in nodes])
    assert registry.registered("me", "i", "me:1")
    await counted.register("a", "j", "a:1", 10**9)
    assert not registry.registered("a", "j", "a:1")
    registry.read_soon()
    await trio.sleep(TIMING.read_again_seconds + 0.01)
    assert read == [["a"]]
    assert registry.registered("a", "j", "a:1")
    for other in [("a", "k", "a:1"), ("a", "j", "a:2"), ("b", "j", "a:1")]:
        assert not registry.registered(*other)
        assert not registry.vouches(*other)


async def test_the_list_is_not_read_too_often_however_many_strangers_appear(autojump_clock, counted, registry):
    before = counted.reads
    for _ in range(1_000):
        registry.read_soon()
        await trio.sleep(0.01)
    assert counted.reads - before <= 10 / TIMING.read_again_seconds + 1
    before = counted.reads
    await trio.sleep(10 * TIMING.renew_seconds)
    assert counted.reads - before <= 11


async def test_the_last_list_counts_while_the_store_is_unreachable(autojump_clock, counted, registry):
    await counted.register("a", "j", "a:1", 1_000)
    await trio.sleep(TIMING.renew_seconds - 1)
    registry.read_soon()
    await counted.register("a", "j", "a:1", 1_000)
    await trio.sleep(TIMING.renew_seconds + 1)
    await counted.register("a", "j", "a:1", 1_000)
    registry.read_soon()
    await trio.sleep(TIMING.read_again_seconds)
    assert registry.registered("a", "j", "a:1")
    counted.unreachable = True
    await trio.sleep(10 * TIMING.grace_seconds)
    assert registry.registered("a", "j", "a:1")
    counted.unreachable = False  # it is no longer in the list, but has some time to register again
    await trio.sleep(TIMING.renew_seconds)
    assert registry.vouches("a", "j", "a:1")


async def test_a_process_that_leaves_the_list_belongs_for_a_little_longer(autojump_clock, counted, registry):
    await counted.register("a", "j", "a:1", 10**9)
    registry.read_soon()
    await trio.sleep(1)
    await counted.unregister("a", "j")
    await trio.sleep(TIMING.grace_seconds - 1)
    assert registry.registered("a", "j", "a:1")
    await trio.sleep(TIMING.renew_seconds + 2)
    assert not registry.registered("a", "j", "a:1")
    assert registry.vouches("a", "j", "a:1")  # so the gossip may still say whether it is alive
    await counted.register("a", "k", "a:1", 10**9)
    registry.read_soon()
    await trio.sleep(1)
    assert not registry.vouches("a", "j", "a:1")
    assert registry.registered("a", "k", "a:1")


async def test_a_process_stops_when_another_one_has_its_name(autojump_clock, counted):
    registry = Registry(counted, "me", "i", "me:1")
    with pytest.raises(ExceptionGroup) as caught:
        async with trio.open_nursery() as nursery:
            await nursery.start(registry.run)
            await counted.unregister("me", "i")
            await counted.register("me", "other", "other:1", 10**9)
            await trio.sleep(TIMING.renew_seconds * 2)
    assert caught.group_contains(StartupError, match="live node named me already, at other:1")


async def test_the_name_of_a_dead_process_is_taken_and_that_of_a_live_one_is_not(autojump_clock, counted, nursery):
    await counted.register("me", "dead", "dead:1", TIMING.lease_ms)
    await nursery.start(Registry(counted, "me", "i", "me:1").run)
    assert trio.current_time() >= TIMING.lease_ms / 1000
    with pytest.raises(ExceptionGroup) as caught:
        async with trio.open_nursery() as inner:
            await inner.start(Registry(counted, "me", "j", "me:2").run)
    assert caught.group_contains(StartupError, match="live node named me already, at me:1")
