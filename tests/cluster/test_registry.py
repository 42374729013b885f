"""The store's list of nodes: who belongs, as each process reads it."""

from __future__ import annotations

import pytest
import trio

from orchy.cluster.registry import (
    GRACE_SECONDS,
    LEASE_MS,
    READ_AGAIN_SECONDS,
    RENEW_SECONDS,
    Registry,
    is_instance_of,
    new_instance,
)
from orchy.errors import StartupError, StoreUnavailable
from orchy.store.memory.store import MemoryStore


def test_an_instance_is_of_its_addresses():
    instance = new_instance("g:1", "r:2", "h:3")
    assert instance != new_instance("g:1", "r:2", "h:3")
    assert is_instance_of(instance, "g:1", "r:2", "h:3")
    for addresses in [("g:1", "r:9", "h:3"), ("g:1", "r:2", "h:4"), ("g:2", "r:2", "h:3"), ("g:1", "r:2")]:
        assert not is_instance_of(instance, *addresses)
    for noise in ("", "x", instance[:-1], instance + "0", "0" * 32):
        assert not is_instance_of(noise, "g:1", "r:2", "h:3")


class Counted:
    """A store that counts readings, and may be away."""

    def __init__(self, store):
        self.store, self.reads, self.away = store, 0, False

    async def register(self, *args):
        self.reads += 1
        if self.away:
            raise StoreUnavailable("away")
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


async def test_who_is_in_the_list_belongs(autojump_clock, counted, registry):
    read = []
    registry.on_read = lambda nodes: read.append([node.node for node in nodes])
    assert registry.registered("me", "i", "me:1")
    await counted.register("a", "j", "a:1", 10**9)
    assert not registry.registered("a", "j", "a:1")
    registry.read_soon()
    await trio.sleep(READ_AGAIN_SECONDS + 0.01)
    assert read == [["a"]]
    assert registry.registered("a", "j", "a:1")
    for other in [("a", "k", "a:1"), ("a", "j", "a:2"), ("b", "j", "a:1")]:
        assert not registry.registered(*other)
        assert not registry.vouches(*other)


async def test_the_list_is_not_read_more_often_than_that_whoever_appears(autojump_clock, counted, registry):
    before = counted.reads
    for _ in range(1_000):
        registry.read_soon()
        await trio.sleep(0.01)
    assert counted.reads - before <= 10 / READ_AGAIN_SECONDS + 1
    before = counted.reads
    await trio.sleep(10 * RENEW_SECONDS)
    assert counted.reads - before <= 11


async def test_while_the_store_is_away_the_last_list_counts(autojump_clock, counted, registry):
    await counted.register("a", "j", "a:1", 1_000)
    await trio.sleep(RENEW_SECONDS - 1)
    registry.read_soon()
    await counted.register("a", "j", "a:1", 1_000)
    await trio.sleep(RENEW_SECONDS + 1)
    await counted.register("a", "j", "a:1", 1_000)
    registry.read_soon()
    await trio.sleep(READ_AGAIN_SECONDS)
    assert registry.registered("a", "j", "a:1")
    counted.away = True
    await trio.sleep(10 * GRACE_SECONDS)
    assert registry.registered("a", "j", "a:1")
    counted.away = False  # it is not in the list now: others have some time to say that they are there
    await trio.sleep(RENEW_SECONDS)
    assert registry.vouches("a", "j", "a:1")


async def test_who_is_not_in_the_list_any_more_belongs_for_a_while(autojump_clock, counted, registry):
    await counted.register("a", "j", "a:1", 10**9)
    registry.read_soon()
    await trio.sleep(1)
    await counted.unregister("a", "j")
    await trio.sleep(GRACE_SECONDS - 1)
    assert registry.registered("a", "j", "a:1")
    await trio.sleep(RENEW_SECONDS + 2)
    assert not registry.registered("a", "j", "a:1")
    assert registry.vouches("a", "j", "a:1")  # the gossip goes on to say whether it lives
    await counted.register("a", "k", "a:1", 10**9)
    registry.read_soon()
    await trio.sleep(1)
    assert not registry.vouches("a", "j", "a:1")
    assert registry.registered("a", "k", "a:1")


async def test_a_name_is_given_up_when_the_store_says_that_it_is_anothers(autojump_clock, counted):
    registry = Registry(counted, "me", "i", "me:1")
    with pytest.raises(ExceptionGroup) as caught:
        async with trio.open_nursery() as nursery:
            await nursery.start(registry.run)
            await counted.unregister("me", "i")
            await counted.register("me", "other", "other:1", 10**9)
            await trio.sleep(RENEW_SECONDS * 2)
    assert caught.group_contains(StartupError, match="live node named me already, at other:1")


async def test_a_name_that_is_held_on_is_refused_and_a_dead_ones_is_taken(autojump_clock, counted, nursery):
    await counted.register("me", "dead", "dead:1", LEASE_MS)
    await nursery.start(Registry(counted, "me", "i", "me:1").run)
    assert trio.current_time() >= LEASE_MS / 1000
    with pytest.raises(ExceptionGroup) as caught:
        async with trio.open_nursery() as inner:
            await inner.start(Registry(counted, "me", "j", "me:2").run)
    assert caught.group_contains(StartupError, match="live node named me already, at me:1")
