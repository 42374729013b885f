"""Polls and streams: which of them gets which work, and when the store is asked."""

from __future__ import annotations

import pytest
import trio

from orchy.dispatch.demand import Demand
from orchy.dispatch.dispatcher import Dispatcher
from orchy.errors import StoreUnavailable
from orchy.store.queues import Claimed, Receipt


class Queues:
    """A store that has only queues, and records each claim."""

    def __init__(self):
        self.work = {}
        self.claims = []
        self.delay = 0.0
        self.broken = False
        self.given_back = []

    def put(self, partition, *bodies):
        self.work.setdefault(partition, []).extend(bodies)

    async def claim(self, action_name, partitions, limit, worker_id, lease_ms=0):
        self.claims.append(list(partitions))
        bodies, owners = [], []
        for partition in partitions:
            queue = self.work.get(partition, [])
            taken, self.work[partition] = queue[: limit - len(bodies)], queue[limit - len(bodies) :]
            bodies += taken
            owners += [partition] * len(taken)
        emptied = [p for p in partitions if not self.work[p]]
        await trio.sleep(self.delay)  # the answer is on its way
        return Claimed(bodies, emptied, [Receipt(owner, b"") for owner in owners])

    async def give_back(self, claimed):
        if self.broken:
            raise StoreUnavailable("not there")
        self.given_back.append(len(claimed.bodies))
        for body, receipt in reversed(list(zip(claimed.bodies, claimed.receipts, strict=True))):
            self.work.setdefault(receipt.partition, []).insert(0, body)
        return len(claimed.bodies)


@pytest.fixture
def queues():
    return Queues()


@pytest.fixture
def dispatcher(queues, autojump_clock):
    dispatcher = Dispatcher(queues)
    dispatcher.own(range(100))
    return dispatcher


async def test_no_work_known_means_no_call(autojump_clock, dispatcher, queues):
    assert await dispatcher.poll("a", 10, 5, "w") == []
    assert queues.claims == []


async def test_known_work_is_claimed_from_its_partition(autojump_clock, dispatcher, queues):
    queues.put(3, b"x", b"y")
    dispatcher.ready(3, ["a"])
    assert await dispatcher.poll("a", 1, 0, "w") == [b"x"]
    assert await dispatcher.poll("a", 10, 0, "w") == [b"y"]
    assert await dispatcher.poll("a", 10, 0, "w") == []
    assert queues.claims == [[3], [3]]


async def test_a_waiting_poll_is_woken_by_work(autojump_clock, dispatcher, queues):
    got = []

    async def wait():
        got.extend(await dispatcher.poll("a", 10, 60, "w"))
        got.append(trio.current_time())

    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.sleep(2)
        queues.put(5, b"x")
        dispatcher.ready(5, ["a"])
    assert got[0] == b"x"
    assert got[1] - began == pytest.approx(2, abs=0.01)
    assert dispatcher.waiting == 0


async def test_each_attempt_wakes_one_of_many_waiting_polls(autojump_clock, dispatcher, queues):
    answers = []

    async def wait(number):
        answers.append(await dispatcher.poll("a", 1, 10, "w"))

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(wait, number)
        await trio.sleep(1)
        for number in range(5):
            queues.put(number, b"%d" % number)
            dispatcher.ready(number, ["a"])
    assert sorted(b for answer in answers for b in answer) == [b"%d" % n for n in range(5)]
    assert len(queues.claims) < 15  # the 20 polls do not all claim each time


async def test_a_poll_cancelled_as_it_is_woken_passes_the_wake_up_on(autojump_clock, dispatcher, queues):
    got = []

    async def wait():
        got.extend(await dispatcher.poll("a", 1, 10, "second"))

    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as first:
                first.start_soon(dispatcher.poll, "a", 1, 10, "first")
                await trio.sleep(1)
                nursery.start_soon(wait)
                await trio.sleep(1)
                queues.put(1, b"x")
                dispatcher.ready(1, ["a"])
                scope.cancel()
    assert got == [b"x"]


async def test_work_reported_during_an_empty_claim_is_not_forgotten(autojump_clock, dispatcher, queues):
    queues.delay = 1.0
    dispatcher.ready(1, ["a"])
    got = []

    async def early():
        got.extend(await dispatcher.poll("a", 1, 0, "early"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(early)
        await trio.sleep(0.5)  # the claim has found nothing, its answer is not here yet
        queues.put(1, b"x")
        dispatcher.ready(1, ["a"])
    assert got == [b"x"]


async def test_a_timeout_does_not_interrupt_a_claim(autojump_clock, dispatcher, queues):
    queues.delay = 5.0
    queues.put(1, b"x")
    dispatcher.ready(1, ["a"])
    assert await dispatcher.poll("a", 1, 1, "w") == [b"x"]


async def test_what_a_cancelled_poll_claimed_goes_to_the_next_one(autojump_clock, dispatcher, queues):
    queues.delay = 1.0
    queues.put(1, b"x", b"y", b"z")
    dispatcher.ready(1, ["a"])
    with trio.move_on_after(0.5) as client:  # gone while its claim is under way
        await dispatcher.poll("a", 2, 30, "w")
    assert client.cancelled_caught
    assert await dispatcher.poll("a", 10, 0, "v") == [b"x", b"y", b"z"]


async def test_what_can_not_be_given_back_is_left_to_its_timeout(autojump_clock, dispatcher, queues, caplog):
    queues.delay, queues.broken = 1.0, True
    queues.put(1, b"x", b"y")
    dispatcher.ready(1, ["a"])
    with trio.move_on_after(0.5):
        await dispatcher.poll("a", 1, 30, "w")
    assert "1 attempts of a come back by their timeouts: not there" in caplog.text
    assert await dispatcher.poll("a", 10, 0, "v") == [b"y"]


async def test_only_owned_partitions_count(autojump_clock, dispatcher, queues):
    dispatcher.ready(7, ["a"])
    dispatcher.own([1, 2])
    dispatcher.ready(8, ["a"])
    assert await dispatcher.poll("a", 1, 0, "w") == []
    assert queues.claims == []


async def test_a_closed_dispatcher_answers_at_once(autojump_clock, dispatcher):
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(dispatcher.poll, "a", 1, 60, "w")
        await trio.sleep(1)
        dispatcher.close()
    assert trio.current_time() - began < 2
    assert await dispatcher.poll("a", 1, 60, "w") == []


async def test_many_partitions_take_turns(autojump_clock, dispatcher, queues):
    for partition in range(100):
        queues.put(partition, *[b"%d" % partition] * 3)
        dispatcher.ready(partition, ["a"])
    got = []
    while bodies := await dispatcher.poll("a", 20, 0, "w"):
        got += bodies
    assert len(got) == 300


# Streams: a demand is filled by claims, and by commits that create work.


@pytest.fixture
def demand():
    """A demand, and what was delivered for it."""
    delivered = []
    return Demand("a", "w", lambda claimed: delivered.extend(claimed.bodies)), delivered


async def test_a_demand_gets_work_that_exists_and_work_that_appears(autojump_clock, dispatcher, queues, demand):
    demand, delivered = demand
    queues.put(1, b"x")
    dispatcher.ready(1, ["a"])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(dispatcher.hand_out, demand)
        await trio.sleep(1)
        assert delivered == []  # no credit
        demand.add(3)
        await trio.sleep(1)
        assert delivered == [b"x"]
        queues.put(2, b"y", b"z", b"too many")
        dispatcher.ready(2, ["a"])
        await trio.sleep(1)
        assert delivered == [b"x", b"y", b"z"]
        assert (demand.credit, demand.reserved) == (0, 0)
        demand.add(1)
        await trio.sleep(1)
        assert delivered == [b"x", b"y", b"z", b"too many"]
        demand.close()
        nursery.cancel_scope.cancel()


async def test_a_commit_hands_out_to_demands_in_turn(autojump_clock, dispatcher, nursery):
    demands = [Demand("a", name, lambda claimed: None) for name in ("v", "w")]
    for demand in demands:
        demand.add(2)
        nursery.start_soon(dispatcher.hand_out, demand)
    await trio.sleep(1)
    assert dispatcher.reserve("b") is None
    takers = [dispatcher.reserve("a") for _ in range(5)]
    assert sorted(taker.worker for taker in takers[:4]) == ["v", "v", "w", "w"]
    assert takers[0] is not takers[1]
    assert takers[4] is None  # no credit is left
    assert dispatcher.reserved == 4
    takers[0].release()
    assert dispatcher.reserved == 3
    assert dispatcher.reserve("a") is takers[0]


async def test_queued_work_goes_first(autojump_clock, dispatcher, queues, demand, nursery):
    demand, delivered = demand
    queues.delay = 1.0
    queues.put(1, b"x")
    dispatcher.ready(1, ["a"])
    demand.add(5)
    nursery.start_soon(dispatcher.hand_out, demand)
    await trio.sleep(0.5)
    assert dispatcher.reserve("a") is None  # the claim is under way
    await trio.sleep(1)
    assert delivered == [b"x"]
    assert dispatcher.reserve("a") is demand


async def test_a_demand_filled_by_a_commit_passes_its_wake_up_on(autojump_clock, dispatcher, queues, demand):
    demand, delivered = demand
    got = []

    async def poll():
        got.extend(await dispatcher.poll("a", 1, 10, "second"))

    demand.add(1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(dispatcher.hand_out, demand)
        await trio.sleep(1)
        nursery.start_soon(poll)
        await trio.sleep(1)
        taker = dispatcher.reserve("a")
        queues.put(1, b"x")
        dispatcher.ready(1, ["a"])  # wakes the stream, which has no credit any more
        await trio.sleep(1)
        assert got == [b"x"]
        taker.take(b"y", Receipt(1, b""))
        assert delivered == [b"y"]
        demand.close()
        nursery.cancel_scope.cancel()


async def test_a_failed_claim_is_repeated(autojump_clock, dispatcher, queues, demand, nursery, caplog):
    demand, delivered = demand
    claim = queues.claim
    queues.put(1, b"x")
    dispatcher.ready(1, ["a"])

    async def fail(*args):
        raise StoreUnavailable("not there")

    queues.claim = fail
    demand.add(1)
    nursery.start_soon(dispatcher.hand_out, demand)
    await trio.sleep(0.5)
    assert "no work of a could be claimed: not there" in caplog.text
    assert demand.credit == 1
    queues.claim = claim
    await trio.sleep(2)
    assert delivered == [b"x"]


async def test_a_claim_under_way_is_delivered_although_its_worker_leaves(autojump_clock, dispatcher, queues, demand):
    demand, delivered = demand
    queues.delay = 1.0
    queues.put(1, b"x")
    dispatcher.ready(1, ["a"])
    demand.add(1)
    with trio.move_on_after(0.5):
        await dispatcher.hand_out(demand)
    assert delivered == [b"x"]
    assert demand.reserved == 0
    assert dispatcher.reserve("a") is None


async def test_a_closed_dispatcher_ends_demands(autojump_clock, dispatcher, demand):
    demand, _ = demand
    demand.add(1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(dispatcher.hand_out, demand)
        await trio.sleep(1)
        dispatcher.close()
    assert demand.closed
    await dispatcher.hand_out(demand)


async def test_credit_may_become_negative_when_places_in_use_are_withdrawn(autojump_clock, dispatcher, demand, nursery):
    demand, delivered = demand
    nursery.start_soon(dispatcher.hand_out, demand)
    demand.add(2)
    await trio.sleep(1)
    takers = [dispatcher.reserve("a") for _ in range(2)]
    demand.add(-2)  # too late: both places are reserved
    for taker in takers:
        taker.take(b"x", Receipt(1, b""))
    assert delivered == [b"x", b"x"]
    demand.add(2)  # for those two
    assert dispatcher.reserve("a") is None
    demand.add(1)
    assert dispatcher.reserve("a") is demand


async def test_a_paused_demand_gets_nothing_and_keeps_its_credit(autojump_clock, dispatcher, queues, demand, nursery):
    demand, delivered = demand
    demand.add(2)
    nursery.start_soon(dispatcher.hand_out, demand)
    await trio.sleep(1)
    taker = dispatcher.reserve("a")
    demand.pause()
    demand.pause()
    taker.release()
    demand.add(3)
    assert demand.granted == 5
    assert dispatcher.reserve("a") is None
    queues.put(1, *[b"x"] * 9)
    dispatcher.ready(1, ["a"])
    await trio.sleep(1)
    assert delivered == []
    demand.resume()
    await trio.sleep(1)
    assert delivered == [b"x"] * 5


async def test_a_closed_demand_stays_closed(autojump_clock, dispatcher, demand):
    demand, _ = demand
    demand.add(2)
    demand.pause()
    demand.close()
    demand.resume()
    demand.add(5)
    assert (demand.credit, demand.granted) == (0, 0)
    assert not await demand.wait_for_credit()


async def test_a_demand_is_settled_when_no_place_is_reserved(autojump_clock, demand, nursery):
    demand, _ = demand
    demand.add(2)
    await demand.wait_settled()
    demand.reserve(2)
    settled = trio.Event()

    async def wait():
        await demand.wait_settled()
        settled.set()

    nursery.start_soon(wait)
    demand.take(b"x", Receipt(1, b""))
    await trio.sleep(1)
    assert not settled.is_set()
    demand.release()
    await trio.sleep(1)
    assert settled.is_set()


async def test_many_attempts_are_given_back_in_batches_and_in_order(autojump_clock, dispatcher, queues):
    bodies = [b"%d" % number for number in range(250)]
    await dispatcher.give_back("a", Claimed(bodies, (), [Receipt(1, b"")] * 250))
    assert max(queues.given_back) <= 100
    got = []
    while part := await dispatcher.poll("a", 100, 0, "w"):
        got += part
    assert got == bodies


async def test_what_the_store_does_not_take_back_in_time_is_logged(autojump_clock, dispatcher, queues, caplog):
    async def hang(claimed):
        await trio.sleep_forever()

    queues.give_back = hang
    await dispatcher.give_back("a", Claimed([b"x"], (), [Receipt(1, b"")]))
    assert "1 attempts of a come back by their timeouts: the store does not answer" in caplog.text
