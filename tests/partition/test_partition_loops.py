"""The loops of an owner, which keep its leases and fire its timers, in virtual time."""

from __future__ import annotations

import trio
import trio.lowlevel
from msgspec.structs import replace

from orchy.errors import StoreUnavailable
from orchy.flow.events import TimerKind
from orchy.partition.holdings import Holdings
from orchy.partition.leases import LeaseKeeper
from orchy.partition.limits import LEASE_TIMINGS, TIMER_TIMING, TimerLimits
from orchy.partition.timers import TimerLoop
from orchy.store.leases import Lease
from orchy.store.timers import DueTimer, PartitionScan, TimerKey


async def test_leases_are_taken_renewed_and_released(autojump_clock, store):
    holdings = Holdings()
    keeper = LeaseKeeper(store, "one", holdings)
    keeper.want([0, 1, 2])
    async with trio.open_nursery() as nursery:
        await nursery.start(keeper.run)
        assert sorted(holdings.leases) == [0, 1, 2]
        assert keeper.complete
        await trio.sleep(5 * LEASE_TIMINGS["default"].lease_ms / 1000)
        owners = await store.owners([0, 1, 2])
        assert {owner.node for owner in owners} == {"one"}
        assert all(owner.remaining_ms > 0 and owner.epoch == 1 for owner in owners)
        keeper.want([2])
        await trio.sleep(0.1)
        assert sorted(holdings.leases) == [2]
        assert [lease.partition for lease in await store.acquire([0, 1, 2], "two", 1000)] == [0, 1]
        nursery.cancel_scope.cancel()
    assert [lease.epoch for lease in await store.acquire([2], "two", 1000)] == [2]


async def test_a_lease_that_another_node_holds_is_taken_when_it_expires(autojump_clock, store):
    await store.acquire([0], "other", 3_000)
    holdings = Holdings()
    keeper = LeaseKeeper(store, "one", holdings)
    keeper.want([0])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.run)
        await trio.sleep(2)
        assert not holdings.leases
        assert not keeper.complete
        await trio.sleep(3)
        assert holdings.leases == {0: Lease(0, 2)}
        nursery.cancel_scope.cancel()


async def test_a_lost_lease_is_noticed(autojump_clock, store):
    holdings = Holdings()
    keeper = LeaseKeeper(store, "one", holdings)
    keeper.want([0])
    changes = []
    holdings.watch(lambda leases: changes.append(sorted(leases)))
    async with trio.open_nursery() as nursery:
        await nursery.start(keeper.run)
        await store.release([Lease(0, 1)], "one")
        await store.acquire([0], "two", 60_000)
        await trio.sleep(5)
        assert not holdings.leases
        assert changes == [[], [0], []]
        nursery.cancel_scope.cancel()


async def test_leases_are_released_although_the_stop_interrupts_their_release(autojump_clock, store):
    class Slow:
        """The store, with latency."""

        def __getattr__(self, verb):
            async def call(*args):
                await trio.sleep(0.1)
                return await getattr(store, verb)(*args)

            return call

    keeper = LeaseKeeper(Slow(), "one", Holdings())
    keeper.want([0, 1])
    async with trio.open_nursery() as nursery:
        await nursery.start(keeper.run)
        keeper.want([])
        await trio.sleep(0.05)
        nursery.cancel_scope.cancel()
    assert len(await store.acquire([0, 1], "two", 1000)) == 2


class Scans:
    """A store that answers scans from a script, and records when they came."""

    def __init__(self):
        self.came = []
        self.answers = {}
        self.fail = False

    async def scan(self, leases, limit, lease_ms):
        await trio.lowlevel.checkpoint()
        self.came.append((trio.current_time(), [lease.partition for lease in leases]))
        if self.fail:
            raise StoreUnavailable("down")
        return [self.answers.pop(p.partition, PartitionScan(p.partition, (), None, ())) for p in leases]


def start_loop(nursery, scans, partitions=(0, 1)):
    holdings = Holdings()
    holdings.add([Lease(partition, 1) for partition in partitions])
    fired, ready = [], []

    async def fire(due):
        await trio.lowlevel.checkpoint()
        fired.append((trio.current_time(), due.key))

    loop = TimerLoop(scans, holdings, fire, lambda p, names: ready.append((p, list(names))), lambda late_ms: None)
    nursery.start_soon(loop.run)
    return loop, holdings, fired, ready


async def test_an_idle_owner_scans_all_partitions_in_one_call_a_second(autojump_clock, nursery):
    scans = Scans()
    start_loop(nursery, scans)
    await trio.sleep(10.5)
    assert len(scans.came) == 11
    assert all(partitions == [0, 1] for _, partitions in scans.came)


async def test_a_known_timer_is_scanned_for_when_it_is_due(autojump_clock, nursery):
    scans = Scans()
    began = trio.current_time()
    loop, _, fired, _ = start_loop(nursery, scans)
    await trio.sleep(0.1)
    key = TimerKey(TimerKind.DELAY, 1, 1, "f")
    loop.hint(1, 250)
    loop.hint(1, 900)
    loop.hint(7, 1)  # not owned
    scans.answers[1] = PartitionScan(1, [DueTimer(1, key, 0)], None, ["a"])
    await trio.sleep(0.5)
    assert [(round(at - began, 2), key) for at, key in fired] == [(0.35, key)]
    assert [partitions for _, partitions in scans.came] == [[0, 1], [1]]


async def test_a_scan_announces_the_next_timer(autojump_clock, nursery):
    scans = Scans()
    began = trio.current_time()
    scans.answers[0] = PartitionScan(0, (), 400, ())
    start_loop(nursery, scans)
    await trio.sleep(0.9)
    assert [(round(at - began, 2), p) for at, p in scans.came] == [(0, [0, 1]), (0.4, [0])]


async def test_work_found_by_a_scan_is_reported(autojump_clock, nursery):
    scans = Scans()
    scans.answers[1] = PartitionScan(1, (), None, ["a", "b"])
    *_, ready = start_loop(nursery, scans)
    await trio.sleep(0.1)
    assert ready == [(1, ["a", "b"])]


async def test_a_lost_partition_is_dropped(autojump_clock, nursery):
    scans = Scans()
    scans.answers[1] = PartitionScan(1, (), None, (), lease_lost=True)
    _, holdings, *_ = start_loop(nursery, scans)
    await trio.sleep(0.1)
    assert sorted(holdings.leases) == [0]


async def test_a_partition_released_during_a_scan_does_not_keep_the_loop_awake(autojump_clock, nursery):
    holdings = Holdings()

    class GivenUp(Scans):
        async def scan(self, leases, limit, lease_ms):
            answers = await super().scan(leases, limit, lease_ms)
            holdings.remove([1])
            return answers

    scans = GivenUp()
    scans.answers[1] = PartitionScan(1, (), -5, ())  # more timers are due in it
    holdings.add([Lease(0, 1), Lease(1, 1)])

    async def fire(due):
        await trio.lowlevel.checkpoint()

    loop = TimerLoop(scans, holdings, fire, lambda p, names: None, lambda late_ms: None)
    nursery.start_soon(loop.run)
    for _ in range(20):
        await trio.lowlevel.checkpoint()
    assert loop._next_at > trio.current_time()
    nursery.cancel_scope.cancel()


async def test_timers_count_as_firing_until_they_are_handled_or_fail(autojump_clock, nursery):
    scans, holdings = Scans(), Holdings()
    holdings.add([Lease(0, 1)])

    async def fire(due):
        await trio.sleep(5)
        if due.key.action_id == 1:
            raise StoreUnavailable("gone")

    loop = TimerLoop(scans, holdings, fire, lambda p, names: None, lambda late_ms: None)
    keys = [TimerKey(TimerKind.DELAY, number, 1, "f") for number in (1, 2)]
    scans.answers[0] = PartitionScan(0, [DueTimer(0, key, 0) for key in keys], None, ())
    nursery.start_soon(loop.run)
    await trio.sleep(1)
    assert loop.firing == 2
    await trio.sleep(5)
    assert loop.firing == 0


async def test_no_more_timers_than_the_limit_are_handled_at_once(autojump_clock, nursery):
    scans, holdings, handled = Scans(), Holdings(), []
    holdings.add([Lease(0, 1)])

    async def fire(due):
        await trio.sleep(1)
        handled.append(trio.current_time())

    limits = TimerLimits(firing_max=2)
    loop = TimerLoop(scans, holdings, fire, lambda p, names: None, lambda late_ms: None, limits=limits)
    keys = [TimerKey(TimerKind.DELAY, number, 1, "f") for number in range(5)]
    scans.answers[0] = PartitionScan(0, [DueTimer(0, key, 0) for key in keys], None, ())
    began = trio.current_time()
    nursery.start_soon(loop.run)
    await trio.sleep(5)
    assert [round(at - began) for at in handled] == [1, 1, 2, 2, 3]


async def test_a_new_partition_is_scanned_at_once(autojump_clock, nursery):
    scans = Scans()
    _, holdings, *_ = start_loop(nursery, scans)
    await trio.sleep(0.1)
    holdings.add([Lease(5, 1)])
    await trio.sleep(0.1)
    assert scans.came[-1][1] == [5]


async def test_a_store_that_is_down_is_asked_again_but_not_hammered(autojump_clock, nursery):
    scans = Scans()
    scans.fail = True
    start_loop(nursery, scans)
    await trio.sleep(5)
    assert 3 <= len(scans.came) <= 12
    scans.fail = False
    before = len(scans.came)
    await trio.sleep(2 * TIMER_TIMING.scan_seconds)
    assert len(scans.came) > before


async def test_a_jump_of_the_stores_clock_is_logged(autojump_clock, nursery, caplog):
    class Jumping(Scans):
        async def scan(self, leases, limit, lease_ms):
            answers = await super().scan(leases, limit, lease_ms)
            shown_ms = round(trio.current_time() * 1000) + (25_000 if trio.current_time() > began + 3 else 0)
            return [replace(answer, time_ms=shown_ms) for answer in answers]

    async def fire(due):
        """Nothing is due."""

    began = trio.current_time()
    holdings = Holdings()
    holdings.add([Lease(0, 1)])
    loop = TimerLoop(
        Jumping(), holdings, fire, lambda *_: None, lambda _: None, clock=lambda: trio.current_time() * 1000
    )
    nursery.start_soon(loop.run)
    await trio.sleep(10)
    assert loop.clock_watch.jumps == 1
    assert "the store's clock has jumped forward by 2" in caplog.text


async def test_a_loss_of_the_stores_data_is_logged_and_the_leases_are_taken_again(autojump_clock, store, caplog):
    holdings = Holdings()
    keeper = LeaseKeeper(store, "one", holdings)
    keeper.want([0, 1])
    async with trio.open_nursery() as nursery:
        await nursery.start(keeper.run)
        with trio.fail_after(20):
            nursery.start_soon(lose_all_after, store, 5)
            await keeper.wait_for_loss()
        await trio.sleep(5)
        assert sorted(holdings.leases) == [0, 1]
        assert keeper.losses == 1
        assert "LOST DATA" in caplog.text
        assert "somebody else has taken them" not in caplog.text
        nursery.cancel_scope.cancel()


async def lose_all_after(store, seconds):
    await trio.sleep(seconds)
    store._partitions.clear()


async def test_an_epoch_that_does_not_rise_means_that_the_store_lost_data(autojump_clock, store, caplog):
    """As when a scan drops the partitions before they are renewed."""
    holdings = Holdings()
    keeper = LeaseKeeper(store, "one", holdings)
    keeper.want([0, 1])
    async with trio.open_nursery() as nursery:
        await nursery.start(keeper.run)
        store._partitions.clear()
        holdings.remove([0, 1])
        keeper.ask_again()
        await trio.sleep(1)
        assert sorted(holdings.leases) == [0, 1]
        assert keeper.losses == 1
        assert "LOST DATA" in caplog.text
        nursery.cancel_scope.cancel()


async def test_a_gone_nodes_leases_are_taken_only_for_as_long_as_they_may_last(autojump_clock, store, nursery):
    """After that, a lease under its name belongs to a node that has come back."""
    holdings = Holdings()
    keeper = LeaseKeeper(store, "one", holdings)
    nursery.start_soon(keeper.run)
    await store.acquire([0, 1], "two", 3_600_000)
    keeper.want([0], gone=["two"])
    await trio.sleep(0.1)
    assert set(holdings.leases) == {0}
    await trio.sleep(10)
    keeper.want([0, 1], gone=["two"])
    await trio.sleep(10)
    assert set(holdings.leases) == {0}


async def test_missing_leases_are_asked_for_soon_and_then_less_often(autojump_clock, store, nursery):
    holdings = Holdings()
    keeper = LeaseKeeper(store, "one", holdings)
    (lease,) = await store.acquire([0], "two", 3_600_000)
    nursery.start_soon(keeper.run)
    keeper.want([0])
    await trio.sleep(0.05)
    await store.release([lease], "two")
    await trio.sleep(0.1)
    assert set(holdings.leases) == {0}
