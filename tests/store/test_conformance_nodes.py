"""Every store: which processes serve the namespace."""

from __future__ import annotations

HOUR_MS = 3_600_000


def seen(nodes):
    return [(node.node, node.instance, node.address) for node in nodes]


async def test_nodes_find_each_other(store):
    assert seen(await store.register("b", "i1", "h:1", HOUR_MS)) == [("b", "i1", "h:1")]
    (first, second) = await store.register("a", "i2", "h:2", HOUR_MS)
    assert seen([first, second]) == [("a", "i2", "h:2"), ("b", "i1", "h:1")]
    assert 0 < second.remaining_ms <= HOUR_MS


async def test_a_name_belongs_to_one_live_process(store):
    await store.register("a", "i1", "h:1", HOUR_MS)
    assert seen(await store.register("a", "i2", "h:2", HOUR_MS)) == [("a", "i1", "h:1")]
    assert seen(await store.register("a", "i1", "h:3", HOUR_MS)) == [("a", "i1", "h:3")]


async def test_a_process_at_the_same_address_takes_over_the_name(store):
    await store.register("a", "i1", "h:1", HOUR_MS)
    assert seen(await store.register("a", "i2", "h:1", HOUR_MS)) == [("a", "i2", "h:1")]


async def test_a_registration_expires(store, wait_for):
    await store.register("a", "i1", "h:1", 20)
    assert await wait_for(lambda: free(store)) == [("a", "i2", "h:2")]


async def free(store):
    nodes = seen(await store.register("a", "i2", "h:2", HOUR_MS))
    return nodes if nodes[0][1] == "i2" else None


async def test_a_process_unregisters_only_itself(store):
    await store.register("a", "i1", "h:1", HOUR_MS)
    await store.unregister("a", "i2")
    await store.unregister("nobody", "i2")
    assert seen(await store.register("b", "i2", "h:2", HOUR_MS)) == [("a", "i1", "h:1"), ("b", "i2", "h:2")]
    await store.unregister("a", "i1")
    assert seen(await store.register("b", "i2", "h:2", HOUR_MS)) == [("b", "i2", "h:2")]
