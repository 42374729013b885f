"""A node's part in its cluster: which partitions it holds, when it is ready, which nodes it wakes."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import msgpack
import pytest
import trio

from orchy.cluster.cluster import Cluster, Member
from orchy.partition.holdings import Holdings
from orchy.partition.leases import LeaseKeeper
from orchy.ring import owners, successors


class Members:
    """A membership that a test changes."""

    def __init__(self, *names):
        self.list = [Member(name, "alive", 1, f"{name}:1", f"{name}:2", f"{name}:3", ready=True) for name in names]
        self.change = trio.Event()
        self.sent = []

    def members(self):
        return self.list

    async def changed(self):
        await self.change.wait()

    def announce_ready(self, ready):
        pass

    def send(self, node, message):
        self.sent.append((node, msgpack.unpackb(message)))

    def set(self, members):
        self.list = members
        self.change.set()
        self.change = trio.Event()


class Alone:
    """The membership of a node without others."""

    def __init__(self, node: str, gossip_address: str, http_address: str, grpc_address: str) -> None:
        self._member = Member(node, "alive", 1, gossip_address, http_address, grpc_address, ready=False)
        self._change = trio.Event()

    def members(self) -> Sequence[Member]:
        return [self._member]

    async def changed(self) -> None:
        await self._change.wait()

    def announce_ready(self, ready: bool) -> None:
        if ready is not self._member.ready:
            self._member = attrs.evolve(self._member, ready=ready)
            self._change.set()
            self._change = trio.Event()

    def send(self, node: str, message: bytes) -> None:
        raise AssertionError(f"a node on its own has nothing to say to {node}")


async def run_until_settled(nursery: trio.Nursery, cluster: Cluster, keeper: LeaseKeeper) -> None:
    """Run a node's loops; it has the partitions that it is to have then."""
    nursery.start_soon(cluster.run)
    nursery.start_soon(keeper.run)
    await trio.sleep(3)


def make(store, membership, node="one"):
    holdings = Holdings()
    keeper = LeaseKeeper(store, node, holdings)
    cluster = Cluster(
        node=node,
        partitions=8,
        membership=membership,
        owners=owners,
        successors=successors,
        keeper=keeper,
        holdings=holdings,
        store=store,
    )
    return cluster, keeper, holdings


async def test_a_node_on_its_own_holds_everything(autojump_clock, store, nursery):
    cluster, keeper, holdings = make(store, Alone("one", "g:1", "h:2", "r:3"))
    assert not cluster.ready
    await run_until_settled(nursery, cluster, keeper)
    assert cluster.ready
    assert sorted(holdings.leases) == list(range(8))
    told = await cluster.describe()
    assert {partition["owner"] for partition in told["partitions"]} == {"one"}
    assert cluster.servers() == [("one", "r:3")]
    await cluster.hand_over()
    assert not cluster.ready
    assert len(holdings.leases) == 8  # no other node can take them


async def test_partitions_follow_the_members(autojump_clock, store, nursery):
    members = Members("one", "two")
    cluster, keeper, holdings = make(store, members)
    await run_until_settled(nursery, cluster, keeper)
    assert len(holdings.leases) == 4
    one, two = members.list
    members.set([one, attrs.evolve(two, state="suspect")])
    await trio.sleep(5)
    assert len(holdings.leases) == 4  # a suspicion changes nothing
    members.set([one, attrs.evolve(two, state="dead")])
    await trio.sleep(5)
    assert len(holdings.leases) == 8
    assert cluster.servers() == [("one", "one:3")]
    members.set([one, two])
    await trio.sleep(5)
    assert len(holdings.leases) == 4
    members.set([one, attrs.evolve(two, ready=False)])
    await trio.sleep(5)
    assert len(holdings.leases) == 8


async def test_work_in_a_partition_of_another_node_wakes_that_node(autojump_clock, store, nursery):
    members = Members("one", "two")
    cluster, keeper, holdings = make(store, members)
    heard = []
    cluster.on_enqueued = lambda partition, names: heard.append((partition, list(names)))
    cluster.on_timer_set = lambda partition, after_ms: heard.append((partition, after_ms))
    await run_until_settled(nursery, cluster, keeper)
    mine = min(holdings.leases)
    theirs = min(set(range(8)) - holdings.leases.keys())
    cluster.enqueued(mine, ["a"])
    cluster.timer_set(mine, 5)
    assert heard == [(mine, ["a"]), (mine, 5)]
    cluster.enqueued(theirs, ["a"])
    cluster.timer_set(theirs, 5)
    assert members.sent == [("two", [theirs, ["a"], None]), ("two", [theirs, [], 5])]
    cluster.enqueued(theirs, ["x" * 2_000])  # too long for a datagram: the next scan finds it
    assert len(members.sent) == 2
    heard.clear()
    cluster.receive(msgpack.packb([mine, ["b"], 7]))
    cluster.receive(msgpack.packb([theirs, ["b"], 7]))
    assert heard == [(mine, ["b"]), (mine, 7)]


@pytest.mark.parametrize(
    "noise",
    [
        b"",
        b"\xc1",
        *map(
            msgpack.packb,
            [
                5,
                {},
                [[], [], []],
                [0, 5, "x"],
                [0, "a", 5],
                [0, [5], 5],
                [0, ["a"], float("inf")],
                [0, ["a"], float("nan")],
                [0, ["a"], 2**64 - 1],
                [0, ["a"], True],
                [0, ["a"], msgpack.Timestamp(1)],
                [True, ["a"], 5],
                [0.0, ["a"], 5],
                [0, ["a"], 5, 5],
                [0, [{}], 5],
            ],
        ),
    ],
)
async def test_malformed_messages_are_dropped(autojump_clock, store, nursery, noise):
    cluster, keeper, _ = make(store, Alone("one", "g", "h", "r"))
    heard = []
    cluster.on_enqueued = lambda *what: heard.append(what)
    cluster.on_timer_set = lambda *what: heard.append(what)
    await run_until_settled(nursery, cluster, keeper)
    cluster.receive(noise)
    assert heard == []
    assert cluster.wakeups_dropped == 1


async def test_an_unregistered_node_owns_nothing_and_is_not_shown_to_workers(autojump_clock, store, nursery):
    members = Members("one", "two", "three")
    members.list[2] = attrs.evolve(members.list[2], registered=False)
    cluster, keeper, holdings = make(store, members)
    await run_until_settled(nursery, cluster, keeper)
    assert len(holdings.leases) == 4
    assert [name for name, _ in cluster.servers()] == ["one", "two"]
    assert [member["registered"] for member in (await cluster.describe())["members"]] == [True, True, False]
    members.set([attrs.evolve(member, registered=True) for member in members.list])
    await trio.sleep(5)
    assert len(holdings.leases) < 4
    assert [name for name, _ in cluster.servers()] == ["one", "two", "three"]


async def test_a_node_without_partitions_is_ready_all_the_same(autojump_clock, store, nursery):
    names = [f"node-{number}" for number in range(9)]  # of 8 partitions
    owned = owners(names, 8)
    spare = next(name for name in names if name not in owned)
    cluster, keeper, holdings = make(store, Members(*names), spare)
    nursery.start_soon(cluster.run)
    nursery.start_soon(keeper.run)
    await trio.sleep(30)
    assert not holdings.leases.keys() - keeper.wanted
    assert cluster.ready


async def test_a_partition_that_its_owner_does_not_take_is_adopted_for_a_while(autojump_clock, store, nursery):
    cluster, keeper, holdings = make(store, Members("one", "two"))  # node two is alive, and does nothing else
    await run_until_settled(nursery, cluster, keeper)
    assert len(holdings.leases) == 4
    await trio.sleep(17)
    assert len(holdings.leases) == 8
    await trio.sleep(30)
    assert len(holdings.leases) < 8  # node two gets another chance
    await trio.sleep(20)
    assert len(holdings.leases) == 8


async def test_a_node_that_stops_hands_its_partitions_over(autojump_clock, store, nursery):
    members = Members("one", "two")
    cluster, keeper, holdings = make(store, members)
    await run_until_settled(nursery, cluster, keeper)
    mine = set(holdings.leases)
    await cluster.hand_over()
    assert not holdings.leases
    assert {lease.partition for lease in await store.acquire(sorted(mine), "two", 10_000)} == mine
    assert members.sent == [("two", [-1, [], None])]


async def test_a_partition_that_another_node_took_faster_is_not_adopted(autojump_clock, store, nursery):
    cluster, keeper, holdings = make(store, Members("one", "two"))
    await run_until_settled(nursery, cluster, keeper)
    mine = dict.fromkeys(holdings.leases, "one")
    assert len(await store.acquire(sorted(set(range(8)) - mine.keys()), "two", 60_000)) == 4
    while keeper.wanted == mine.keys():
        cluster._consider(mine)  # as seen a moment before node two took them
    assert keeper.wanted == set(range(8))
    await trio.sleep(10)
    assert keeper.wanted == mine.keys()
    assert keeper.complete


async def test_partitions_of_a_node_that_is_gone_are_taken_at_once(autojump_clock, store, nursery):
    """Its lease of an hour need not expire first, and there is no debounce."""
    members = Members("one", "two")
    cluster, keeper, holdings = make(store, members)
    await run_until_settled(nursery, cluster, keeper)
    mine = set(holdings.leases)
    await store.acquire(sorted(set(range(8)) - mine), "two", 3_600_000)
    one, two = members.list
    members.set([one, attrs.evolve(two, state="dead", gone=True)])
    await trio.sleep(0.1)
    assert len(holdings.leases) == 8


async def test_a_node_that_is_dead_without_evidence_keeps_its_lease_until_it_runs_out(autojump_clock, store, nursery):
    members = Members("one", "two")
    cluster, keeper, holdings = make(store, members)
    await run_until_settled(nursery, cluster, keeper)
    await store.acquire(sorted(set(range(8)) - holdings.leases.keys()), "two", 20_000)
    one, two = members.list
    members.set([one, attrs.evolve(two, state="dead")])
    await trio.sleep(10)
    assert len(holdings.leases) == 4
    members.set([one, attrs.evolve(two, state="dead", gone=True)])  # evidence may come after the death
    await trio.sleep(0.1)
    assert len(holdings.leases) == 8


async def test_a_node_that_has_come_back_is_not_taken_for_gone(autojump_clock, store, nursery):
    members = Members("one", "two")
    cluster, keeper, holdings = make(store, members)
    await run_until_settled(nursery, cluster, keeper)
    theirs = sorted(set(range(8)) - holdings.leases.keys())
    one, two = members.list
    members.set([one, attrs.evolve(two, state="dead", gone=True)])
    await trio.sleep(0.1)
    members.set([one, attrs.evolve(two, incarnation=2, ready=False)])  # started again, not ready yet
    await trio.sleep(0.1)
    await store.release([lease for lease in holdings.leases.values() if lease.partition in theirs], "one")
    assert len(await store.acquire(theirs, "two", 3_600_000)) == 4  # before the debounce is over
    await trio.sleep(20)
    assert sorted(set(range(8)) - holdings.leases.keys()) == theirs
