"""Every store: queues, claims, pauses and timers."""

from __future__ import annotations

import json
import time

import pytest
from msgspec.structs import replace

from orchy.errors import VersionConflict
from orchy.flow.events import TimerKind
from orchy.store.flows import Commit, Listing
from orchy.store.leases import Lease
from orchy.store.limits import BATCH_MAX
from orchy.store.queues import Claimed, QueueEntry
from orchy.store.timers import TimerKey, TimerSetting

HOUR_MS = 3_600_000


def entry(body, action="pay", action_id=1, attempt=1, timeout_ms=HOUR_MS):
    return QueueEntry(action, action_id, attempt, timeout_ms, body)


def keys_of(scan):
    return [str(due.key) for due in scan.due]


# Queues and claims.


async def test_attempts_are_handed_out_once_and_in_order(drive):
    for number in range(5):
        await drive.start_queued(f"flow-{number}", b"%d" % number)
    assert await drive.claim(limit=2) == [b"0", b"1"]
    assert await drive.claim(limit=2) == [b"2", b"3"]
    assert await drive.claim(limit=2) == [b"4"]
    assert await drive.claim(limit=2) == []


@pytest.mark.parametrize(
    "body", [b"", b"\n", b"a:b\nc\x00\xff", b"x" * 100_000], ids=["empty", "newline", "bytes", "big"]
)
async def test_a_body_is_handed_out_unchanged(drive, body):
    await drive.start_queued("flow", body)
    assert await drive.claim() == [body]


@pytest.mark.parametrize("action", ["pay", "a:b", "a b", "höflich", "1", "q"])
async def test_actions_have_queues_of_their_own(drive, store, action):
    (lease,) = await drive.own(0)
    await drive.start_queued("flow", b"work", action=action)
    assert await drive.claim("other") == []
    assert list((await drive.scan(lease)).ready) == [action]
    assert await drive.claim(action) == [b"work"]
    assert list((await drive.scan(lease)).ready) == []


async def test_a_claim_returns_which_partitions_are_empty_now(drive, store):
    for number, partition in enumerate([0, 0, 2, 2, 3]):
        await drive.start_queued(f"flow-{number}", b"%d" % number, partition=partition)
    claimed = await store.claim("pay", [0, 1, 2], 3, "w")
    assert list(claimed.bodies) == [b"0", b"1", b"2"]
    assert list(claimed.emptied) == [0, 1]
    claimed = await store.claim("pay", [3, 2], 1, "w")
    assert (list(claimed.bodies), list(claimed.emptied)) == ([b"4"], [3])
    claimed = await store.claim("pay", [2], 1, "w")
    assert (list(claimed.bodies), list(claimed.emptied)) == ([b"3"], [2])


async def test_an_attempt_that_is_given_back_goes_to_the_front(drive, store):
    (lease,) = await drive.own(0)
    for number in range(3):
        await drive.start_queued(f"flow-{number}", b"%d\n%d" % (number, number))
    claimed = await store.claim("pay", [0], 2, "w")
    assert await store.give_back(claimed) == 2
    assert list((await drive.scan(lease)).ready) == ["pay"]
    assert await drive.claim(limit=10) == [b"0\n0", b"1\n1", b"2\n2"]
    entries = [json.loads(line.entry)[:3] for line in await store.history(0, "flow-0", 0, 10)]
    assert entries[-3:] == [["H", 1, 1], ["B", 1, 1], ["H", 1, 1]]


async def test_attempts_that_are_given_back_keep_their_order_before_later_ones(drive, store):
    for number in range(6):
        await drive.start_queued(f"flow-{number}", b"%d" % number)
    first, second = [await store.claim("pay", [0], 2, "w") for _ in range(2)]
    await drive.start_queued("flow-6", b"6")
    assert await store.give_back(second) == 2
    assert await store.give_back(first) == 2
    assert await drive.claim(limit=3) == [b"0", b"1", b"2"]
    assert await drive.claim(limit=10) == [b"3", b"4", b"5", b"6"]


async def test_attempts_are_given_back_to_the_front_in_each_partition(drive, store):
    for number in range(8):
        await drive.start_queued(f"flow-{number}", b"%d" % number, partition=number % 2)
    claimed = await store.claim("pay", [0, 1], 6, "w")
    assert list(claimed.bodies) == [b"0", b"2", b"4", b"6", b"1", b"3"]
    assert await store.give_back(claimed) == 6
    assert await drive.claim(partitions=[0], limit=10) == [b"0", b"2", b"4", b"6"]
    assert await drive.claim(partitions=[1], limit=10) == [b"1", b"3", b"5", b"7"]


async def test_giving_back_to_an_empty_queue_makes_it_ready_again(drive, store):
    (lease,) = await drive.own(3)
    await drive.start_queued("flow", b"work", partition=3)
    claimed = await store.claim("pay", [0, 3], 1, "w")
    assert list((await drive.scan(lease)).ready) == []
    assert await store.give_back(claimed) == 1
    scan = await drive.scan(lease)
    assert (list(scan.ready), scan.next_due_in_ms) == (["pay"], None)


async def test_an_attempt_that_ended_or_was_given_back_is_not_given_back(drive, store):
    await drive.start_queued("flow", b"work")
    await drive.start_queued("over", b"stale")
    claimed = await store.claim("pay", [0], 2, "w")
    await drive.end("over", removed_fields=["r:1"], cancel_timers=[TimerKey(TimerKind.TIMEOUT, 1, 1, "over")])
    assert await store.give_back(claimed) == 1
    assert await store.give_back(claimed) == 0
    assert await drive.claim(limit=10) == [b"work"]
    assert await store.give_back(await store.claim("pay", [0], 1, "w")) == 0


async def test_an_attempt_of_a_removed_flow_is_not_given_back(drive, store):
    await drive.start_queued("gone", b"work")
    claimed = await store.claim("pay", [0], 1, "w")
    await drive.end("gone", retain_ms=0)
    assert await store.give_back(claimed) == 0
    assert await store.history(0, "gone", 0, 10) is None
    assert await drive.claim() == []


async def test_an_attempt_that_is_about_to_time_out_is_not_given_back(drive, store):
    """The scan that took its timeout has moved the timer, and its caller will end the attempt: no worker may get it."""
    (lease,) = await drive.own(0)
    await drive.start(fields={"r:1": b"1:q:"}, enqueue=[entry(b"work", timeout_ms=1)])
    claimed = await store.claim("pay", [0], 1, "w")
    assert len(await drive.wait_for_due(lease)) == 1
    assert await store.give_back(claimed) == 0
    assert await drive.claim() == []


async def test_an_attempt_that_is_given_back_in_a_pause_is_parked_by_the_next_claim(drive, store):
    await drive.start_queued("flow", b"work")
    claimed = await store.claim("pay", [0], 1, "w")
    await drive.move(fields={"p": b""})
    assert await store.give_back(claimed) == 1
    assert await drive.claim() == []
    await drive.move(version=2, removed_fields=["p"], unpark=True)
    assert await drive.claim() == [b"work"]


async def test_a_timer_that_is_set_can_be_moved_and_one_that_is_due_or_gone_can_not(drive, store):
    (lease,) = await drive.own(0)
    key = TimerKey(TimerKind.TIMEOUT, 1, 1, "flow")
    assert not await store.extend(0, TimerSetting(key, HOUR_MS))
    await drive.start_queued("flow", b"work")
    await drive.claim()
    assert await store.extend(0, TimerSetting(key, 1))
    assert [due.key for due in await drive.wait_for_due(lease, lease_ms=0)] == [key]
    assert not await store.extend(0, TimerSetting(key, HOUR_MS))


async def test_an_attempt_that_a_commit_hands_out_is_in_no_queue(drive, store):
    (lease,) = await drive.own(0)
    at_once = replace(entry(b"at once", action_id=2, timeout_ms=1), worker='w "1"')
    committed = await drive.start(
        fields={"r:1": b"1:q:", "r:2": b"1:q:"}, enqueue=[entry(b"queued"), at_once], history=[b'["Q",2,1]']
    )
    assert len(committed.receipts) == 1
    assert await drive.claim(limit=10) == [b"queued"]
    entries = [json.loads(line.entry) for line in await store.history(0, "flow", 0, 10)]
    assert entries[:2] == [["Q", 2, 1], ["H", 2, 1, 'w "1"']]
    (due,) = await drive.wait_for_due(lease)
    assert due.key == TimerKey(TimerKind.TIMEOUT, 2, 1, "flow")


async def test_an_attempt_that_a_commit_handed_out_can_be_given_back(drive, store):
    committed = await drive.start(fields={"r:1": b"1:q:"}, enqueue=[replace(entry(b"work"), worker="w")])
    assert await drive.claim() == []
    assert await store.give_back(Claimed([b"work"], (), committed.receipts)) == 1
    assert await drive.claim() == [b"work"]


async def test_commits_that_are_sent_together_are_independent(drive, store):
    await drive.start("there")

    def start(flow_id, partition):
        return Commit(partition, flow_id, "orders", 0, {"m": b"[]"}, (), (), None, Listing.ACTIVE)

    outcomes = await store.commit_all([start("a", 0), start("there", 0), start("b", 1), start("a", 0)])
    assert [getattr(outcome, "version", type(outcome)) for outcome in outcomes] == [
        1,
        VersionConflict,
        1,
        VersionConflict,
    ]
    assert await store.commit_all([]) == []
    assert (await store.load(1, "b")).version == 1


async def test_a_claim_hands_out_no_more_than_a_batch(drive, store):
    count = BATCH_MAX + 1
    await drive.start(
        fields={f"r:{number}": b"1:q:" for number in range(count)},
        enqueue=[entry(b"%d" % number, action_id=number) for number in range(count)],
    )
    claimed = await store.claim("pay", [0], 10 * BATCH_MAX, "w")
    assert (len(claimed.bodies), list(claimed.emptied)) == (BATCH_MAX, [])


async def test_a_claim_adds_its_worker_to_the_history(drive, store):
    worker = 'w "1"\\ \n ü'
    await drive.start_queued("flow", b"work", history=[b'["Q",1,1]'])
    await store.claim("pay", [0], 1, worker)
    queued, handed_out = await store.history(0, "flow", 0, 10)
    assert json.loads(handed_out.entry) == ["H", 1, 1, worker]
    assert handed_out.time_ms >= queued.time_ms
    assert (await store.load(0, "flow")).version == 1


@pytest.mark.parametrize("running", [b"2:q:", b"11:q:", b"1:r:", b"1:", b"", b"q"])
async def test_an_entry_whose_attempt_is_not_the_running_one_is_dropped(drive, store, running):
    await drive.start(fields={"r:1": running}, enqueue=[entry(b"stale")])
    claimed = await store.claim("pay", [0], 10, "w")
    assert (list(claimed.bodies), list(claimed.emptied)) == ([], [0])
    await drive.move(fields={"r:1": b"1:q:"})
    assert await drive.claim() == []


@pytest.mark.parametrize("retain_ms", [0, HOUR_MS])
async def test_an_entry_of_a_flow_that_is_over_is_dropped(drive, store, retain_ms):
    await drive.start_queued("over", b"stale")
    await drive.start_queued("flow", b"work")
    await drive.end("over", retain_ms=retain_ms, removed_fields=["r:1"])
    assert await drive.claim(limit=1) == [b"work"]


async def test_many_stale_entries_take_several_calls(drive, store):
    entries = [entry(b"%d" % number, action_id=number) for number in range(1_000)]
    await drive.start(fields={"r:999": b"1:q:"}, enqueue=entries)
    claims = [await store.claim("pay", [0], 10, "w")]
    while not claims[-1].emptied:
        claims.append(await store.claim("pay", [0], 10, "w"))
        assert len(claims) <= 1_000
    assert [body for claim in claims for body in claim.bodies] == [b"999"]


async def test_attempts_of_a_paused_flow_wait_until_it_is_resumed(drive, store):
    (lease,) = await drive.own(0)
    await drive.start_queued("paused", b"parked", action="pay")
    await drive.start_queued("flow", b"work", action="pay")
    await drive.move("paused", fields={"p": b"1"})
    claimed = await store.claim("pay", [0], 10, "w")
    assert (list(claimed.bodies), list(claimed.emptied)) == ([b"work"], [0])
    assert list((await drive.scan(lease)).ready) == []
    still = await drive.move("paused", 2, fields={"a": b"1"})
    assert still.unparked == ()
    resumed = await drive.move("paused", 3, removed_fields=["p"], unpark=True)
    assert list(resumed.unparked) == ["pay"]
    assert list((await drive.scan(lease)).ready) == ["pay"]
    assert await drive.claim() == [b"parked"]
    assert (await drive.move("paused", 4, unpark=True)).unparked == ()
    assert await drive.claim() == []


async def test_parked_attempts_return_to_their_queues_in_order(drive):
    queue = [entry(b"1", "pay", 1), entry(b"2", "a:b", 2), entry(b"3", "pay", 3)]
    await drive.start(fields={"p": b"1", **{f"r:{number}": b"1:q:" for number in (1, 2, 3)}}, enqueue=queue)
    assert await drive.claim("pay") == []
    assert await drive.claim("a:b") == []
    resumed = await drive.move(removed_fields=["p"], unpark=True)
    assert list(resumed.unparked) == ["pay", "a:b"]
    assert await drive.claim("pay") == [b"1", b"3"]
    assert await drive.claim("a:b") == [b"2"]


async def test_resuming_unparks_only_that_flow(drive):
    for name in ("one", "two"):
        await drive.start_queued(name, name.encode(), fields={"p": b"1"})
    assert await drive.claim() == []
    await drive.move("one", removed_fields=["p"], unpark=True)
    assert await drive.claim() == [b"one"]


async def test_parked_attempts_are_dropped_when_the_flow_ends(drive):
    await drive.start_queued("flow", b"parked", fields={"p": b"1"})
    assert await drive.claim() == []
    assert (await drive.end(removed_fields=["p"], unpark=True)).unparked == ()
    assert await drive.claim() == []


# Timers.


async def test_a_handed_out_attempt_has_a_timeout(drive, store):
    (lease,) = await drive.own(0)
    await drive.start(fields={"r:4": b"2:q:"}, enqueue=[entry(b"work", action_id=4, attempt=2, timeout_ms=1)])
    assert (await drive.scan(lease)).next_due_in_ms is None
    assert await drive.claim() == [b"work"]
    (due,) = await drive.wait_for_due(lease)
    assert (due.partition, str(due.key)) == (0, "t:4:2:flow")
    await drive.move(fields={"r:5": b"1:q:"}, enqueue=[entry(b"more", action_id=5)], cancel_timers=[due.key])
    assert await drive.claim() == [b"more"]
    assert HOUR_MS / 2 < (await drive.scan(lease)).next_due_in_ms <= HOUR_MS + 1


async def test_due_timers_are_returned_earliest_first_up_to_the_limit(drive, timer):
    (lease,) = await drive.own(0)
    places = []
    for number in range(3):
        keys = [f"{kind}:{number}:1:flow" for kind in "wd"]
        was = Listing.ACTIVE if number else None
        committed = await drive.move("flow", number, listed_before=was, set_timers=[timer(key) for key in keys])
        places += [(committed.time_ms, key) for key in keys]
    first = await drive.scan(lease, limit=4)
    assert first.next_due_in_ms <= 0
    rest = await drive.scan(lease, limit=4)
    assert rest.next_due_in_ms > HOUR_MS / 2
    assert [keys_of(first), keys_of(rest)] == [
        [key for _, key in part] for part in (sorted(places)[:4], sorted(places)[4:])
    ]
    assert all(due.late_ms >= 0 for due in [*first.due, *rest.due])
    assert keys_of(await drive.scan(lease)) == []


async def test_a_taken_timer_returns_after_its_lease(drive, timer):
    (lease,) = await drive.own(0)
    await drive.start(set_timers=[timer("d:1:1:flow")])
    assert keys_of(await drive.scan(lease, lease_ms=1)) == ["d:1:1:flow"]
    again = await drive.wait_for_due(lease)
    assert [str(due.key) for due in again] == ["d:1:1:flow"]
    assert keys_of(await drive.scan(lease)) == []


@pytest.mark.parametrize("after_ms", [1, 7, 30])
async def test_timers_are_never_early(drive, store, timer, after_ms):
    (lease,) = await drive.own(0)
    for number in range(10):
        began_at = time.monotonic()
        await drive.start(f"flow-{number}", set_timers=[timer(f"d:1:1:flow-{number}", after_ms)])
        await drive.wait_for_due(lease)
        assert (time.monotonic() - began_at) * 1000 >= after_ms


async def test_a_scan_returns_the_time_until_the_next_timer(drive, timer):
    (lease,) = await drive.own(0)
    await drive.start(set_timers=[timer("d:1:1:flow", 2 * HOUR_MS), timer("w:1:1:flow", HOUR_MS)])
    scan = await drive.scan(lease)
    assert list(scan.due) == []
    assert HOUR_MS / 2 < scan.next_due_in_ms <= HOUR_MS + 1


async def test_a_timer_of_the_same_key_is_moved(drive, timer):
    (lease,) = await drive.own(0)
    await drive.start(set_timers=[timer("d:1:1:flow")])
    await drive.move(set_timers=[timer("d:1:1:flow", HOUR_MS)])
    scan = await drive.scan(lease)
    assert (list(scan.due), scan.next_due_in_ms > HOUR_MS / 2) == ([], True)


async def test_cancelled_timers_are_gone_and_those_set_with_the_same_commit_stay(drive, timer):
    (lease,) = await drive.own(0)
    await drive.start(set_timers=[timer(f"d:{number}:1:flow") for number in (1, 2, 3)])
    cancelled = [TimerKey.parse(f"d:{number}:1:flow") for number in (1, 2, 9)]
    await drive.move(cancel_timers=cancelled, set_timers=[timer("d:2:1:flow")])
    assert sorted(keys_of(await drive.scan(lease))) == ["d:2:1:flow", "d:3:1:flow"]


async def test_timers_can_be_cancelled_without_a_commit(drive, store, timer):
    (lease,) = await drive.own(0)
    await drive.start(set_timers=[timer("d:1:1:flow"), timer("d:2:1:flow")])
    await store.cancel_timers(0, [TimerKey.parse("d:1:1:flow"), TimerKey.parse("d:9:9:nobody")])
    await store.cancel_timers(0, [])
    assert keys_of(await drive.scan(lease)) == ["d:2:1:flow"]
    assert (await store.load(0, "flow")).version == 1


async def test_timers_of_a_removed_flow_remain_until_they_are_cancelled(drive, store, timer):
    (lease,) = await drive.own(0)
    await drive.start(set_timers=[timer("w:1:1:flow")])
    await drive.end(retain_ms=0)
    assert keys_of(await drive.scan(lease)) == ["w:1:1:flow"]


async def test_a_scan_of_several_partitions_keeps_their_order(drive, store, timer):
    leases = await drive.own(0, 1, 2)
    await drive.start("one", partition=1, set_timers=[timer("d:1:1:one")])
    await drive.start_queued("two", b"work", partition=2)
    stale = Lease(0, leases[0].epoch + 1)
    scans = await store.scan([leases[2], stale, leases[1]], 10, HOUR_MS)
    assert [scan.partition for scan in scans] == [2, 0, 1]
    assert [scan.lease_lost for scan in scans] == [False, True, False]
    assert [keys_of(scan) for scan in scans] == [[], [], ["d:1:1:one"]]
    assert [list(scan.ready) for scan in scans] == [["pay"], [], []]
    assert await store.scan([], 10, HOUR_MS) == []


async def test_a_scan_with_an_old_epoch_takes_nothing(drive, store, timer):
    (old,) = await store.acquire([0], "node-1", 0)
    await drive.start(set_timers=[timer("d:1:1:flow")])
    (new,) = await store.acquire([0], "node-2", HOUR_MS)
    lost = await drive.scan(old)
    assert (lost.lease_lost, list(lost.due), list(lost.ready), lost.next_due_in_ms) == (True, [], [], None)
    assert keys_of(await drive.scan(new)) == ["d:1:1:flow"]


async def test_an_expired_lease_is_valid_until_another_node_takes_it(drive, store, timer):
    (lease,) = await store.acquire([0], "node-1", 0)
    await drive.start(set_timers=[timer("d:1:1:flow")])
    assert keys_of(await drive.scan(lease)) == ["d:1:1:flow"]


async def test_a_claim_stops_before_its_reply_is_too_large_for_common_clients(drive):
    for number in range(5):
        await drive.start_queued(f"flow-{number}", b"x" * 2**20)
    assert [len(await drive.claim()) for _ in range(3)] == [3, 2, 0]


async def test_entries_beyond_the_bytes_of_a_claim_stay_in_front_and_in_order(drive, store):
    """It stops in the middle of the entries that it has already popped."""
    bodies = [b"%d" % number + b"x" * 2**20 for number in range(9)]
    for number, body in enumerate(bodies):
        await drive.start_queued(f"flow-{number}", body)
    claimed = await store.claim("pay", [0], 100, "w")
    assert (list(claimed.bodies), list(claimed.emptied)) == (bodies[:3], [])
    await drive.start_queued("last", b"last")
    assert await drive.claim(limit=2) == bodies[3:5]
    assert await store.give_back(claimed) == 3
    assert await drive.claim() == bodies[:3]
    assert await drive.claim() == bodies[5:8]
    assert await drive.claim() == [bodies[8], b"last"]


async def test_a_claim_that_skips_stale_entries_keeps_the_order_of_the_others(drive, store):
    count = 600
    entries = [entry(b"%d" % number, action_id=number) for number in range(count)]
    live = [number for number in range(count) if number % 100 == 99]
    await drive.start(fields={f"r:{number}": b"1:q:" for number in live}, enqueue=entries)
    handed_out = []
    for _ in range(count):
        claimed = await store.claim("pay", [0], 4, "w")
        handed_out += claimed.bodies
        if claimed.emptied:
            break
    assert handed_out == [b"%d" % number for number in live]
