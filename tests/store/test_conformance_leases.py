"""Every store: leases on partitions."""

from __future__ import annotations

from orchy.store.leases import Lease

HOUR_MS = 3_600_000


async def test_a_lease_belongs_to_one_node_and_others_are_left_out(store):
    assert await store.acquire([3, 1], "node-1", HOUR_MS) == [Lease(3, 1), Lease(1, 1)]
    assert await store.acquire([1, 2, 3], "node-2", HOUR_MS) == [Lease(2, 1)]
    assert await store.acquire([], "node-2", HOUR_MS) == []


async def test_epochs_only_rise(store):
    epochs = [(await store.acquire([0], "node-1", HOUR_MS))[0].epoch]
    epochs.append((await store.acquire([0], "node-1", 0))[0].epoch)
    epochs.append((await store.acquire([0], "node-2", HOUR_MS))[0].epoch)
    await store.release([Lease(0, epochs[-1])], "node-2")
    epochs.append((await store.acquire([0], "node-3", HOUR_MS))[0].epoch)
    assert epochs == [1, 2, 3, 4]


async def test_an_expired_lease_is_free(store):
    await store.acquire([0], "node-1", 0)
    assert await store.acquire([0], "node-2", HOUR_MS) == [Lease(0, 2)]


async def test_a_lease_expires_by_itself(store, wait_for):
    await store.acquire([0], "node-1", 20)
    assert await wait_for(lambda: store.acquire([0], "node-2", HOUR_MS)) == [Lease(0, 2)]


async def test_a_renewed_lease_lasts_longer(store):
    leases = await store.acquire([0, 1], "node-1", 0)
    assert await store.renew(leases, "node-1", HOUR_MS) == leases
    assert await store.acquire([0, 1], "node-2", HOUR_MS) == []
    assert await store.renew([], "node-1", HOUR_MS) == []


async def test_only_the_nodes_own_leases_are_renewed(store):
    mine = await store.acquire([0, 1, 2], "node-1", 0)
    await store.acquire([1], "node-2", HOUR_MS)
    assert await store.renew([*mine, Lease(9, 1)], "node-1", HOUR_MS) == [mine[0], mine[2]]
    assert await store.renew([Lease(0, mine[0].epoch + 1)], "node-1", HOUR_MS) == []
    assert await store.renew([mine[0]], "node-2", HOUR_MS) == []


async def test_a_released_lease_is_free_and_can_not_be_renewed(store):
    leases = await store.acquire([0, 1], "node-1", HOUR_MS)
    await store.release([leases[0]], "node-1")
    assert await store.renew(leases, "node-1", HOUR_MS) == [leases[1]]
    assert await store.acquire([0, 1], "node-2", HOUR_MS) == [Lease(0, 2)]


async def test_only_the_nodes_own_leases_are_released(store):
    (lease,) = await store.acquire([0], "node-1", HOUR_MS)
    await store.release([lease], "node-2")
    await store.release([Lease(0, lease.epoch + 1), Lease(5, 1)], "node-1")
    await store.release([], "node-1")
    assert await store.acquire([0], "node-2", HOUR_MS) == []


async def test_owners_returns_holders_and_remaining_times(store):
    await store.acquire([0, 1], "node-1", HOUR_MS)
    await store.acquire([2], "node-2", 0)
    await store.release([Lease(1, 1)], "node-1")
    held, released, expired = await store.owners([0, 1, 2, 7])
    assert (held.partition, held.node, held.epoch) == (0, "node-1", 1)
    assert HOUR_MS / 2 < held.remaining_ms <= HOUR_MS
    assert (released.partition, released.node, released.remaining_ms) == (1, "node-1", 0)
    assert (expired.partition, expired.node, expired.epoch) == (2, "node-2", 1)
    assert expired.remaining_ms <= 0
    assert await store.owners([7]) == []


async def test_many_partitions_are_answered_in_the_order_asked(store):
    wanted = [number * 37 % 300 for number in range(300)]
    leases = await store.acquire(wanted, "node-1", HOUR_MS)
    assert [lease.partition for lease in leases] == wanted
    assert [owner.partition for owner in await store.owners(wanted)] == wanted
    assert [scan.partition for scan in await store.scan(leases, 10, HOUR_MS)] == wanted
    assert await store.renew(leases, "node-1", HOUR_MS) == leases
    await store.release(leases, "node-1")
    assert len(await store.acquire(wanted, "node-2", HOUR_MS)) == 300


async def test_leases_of_nodes_that_are_named_as_gone_are_taken(store):
    await store.acquire([0, 1], "node-1", HOUR_MS)
    await store.acquire([2], "node-2", HOUR_MS)
    taken = await store.acquire([0, 1, 2, 3], "node-3", HOUR_MS, ["node-1", "nobody"])
    assert taken == [Lease(0, 2), Lease(1, 2), Lease(3, 1)]
    assert await store.renew([Lease(0, 1), Lease(1, 1)], "node-1", HOUR_MS) == []
    assert await store.acquire([0, 1], "node-1", HOUR_MS, ["node-2"]) == []
    assert [owner.node for owner in await store.owners([0, 1, 2, 3])] == ["node-3", "node-3", "node-2", "node-3"]
