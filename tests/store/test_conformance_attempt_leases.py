"""Every store: workers' leases on attempts, and extensions of timers that a scan has taken already."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from orchy.errors import TimerMoved
from orchy.flow.events import TimerKind
from orchy.store.queues import Claimed, QueueEntry
from orchy.store.timers import TimerKey, TimerSetting

HOUR_MS = 3_600_000
TIMEOUT = TimerKey(TimerKind.TIMEOUT, 1, 1, "flow")
LOST = TimerKey(TimerKind.LOST, 1, 1, "flow")


async def start(drive, *, lease_ms=1, timeout_ms=HOUR_MS, worker="w 1"):
    entry = QueueEntry("pay", 1, 1, timeout_ms, b"work", worker, lease_ms)
    return await drive.start(fields={"r:1": b"1:q:"}, enqueue=[entry])


async def test_an_expired_worker_lease_is_due_before_the_timeout(drive, store):
    (lease,) = await drive.own(0)
    await start(drive)
    assert [due.key for due in await drive.wait_for_due(lease)] == [LOST]


async def test_a_claimed_attempt_is_leased_as_well(drive, store):
    (lease,) = await drive.own(0)
    await drive.start_queued("flow", b"work")
    (receipt,) = (await store.claim("pay", [0], 1, "w", 1)).receipts
    assert (receipt.flow_id, receipt.action_id, receipt.attempt) == ("flow", 1, 1)
    assert [due.key for due in await drive.wait_for_due(lease)] == [LOST]


@pytest.mark.parametrize("lease_ms", [0, HOUR_MS, 2 * HOUR_MS])
async def test_an_attempt_whose_timeout_is_within_the_lease_has_no_lost_timer(drive, store, lease_ms):
    committed = await start(drive, lease_ms=lease_ms)
    assert await store.renew_attempts(0, [LOST], 1) == [False]
    assert await store.give_back(Claimed([b"work"], (), committed.receipts)) == 1
    await store.claim("pay", [0], 1, "w", lease_ms)
    assert await store.renew_attempts(0, [LOST, TIMEOUT], 1) == [False, True]


async def test_a_lease_is_renewed_while_it_is_set(drive, store):
    (lease,) = await drive.own(0)
    await start(drive)
    other = replace(LOST, attempt=2)
    assert await store.renew_attempts(0, [other, LOST], HOUR_MS) == [False, True]
    assert await store.renew_attempts(0, [LOST], 1) == [True]  # it is not moved back
    scan = await drive.scan(lease)
    assert (list(scan.due), scan.next_due_in_ms > HOUR_MS / 2) == ([], True)
    assert await store.renew_attempts(0, [], 1) == []


@pytest.mark.parametrize("how", ["commit", "cancel", "give back"])
async def test_the_lost_timer_is_removed_with_the_timeout(drive, store, how):
    (lease,) = await drive.own(0)
    committed = await start(drive, lease_ms=1000)
    if how == "commit":
        await drive.move(removed_fields=["r:1"], cancel_timers=[TIMEOUT])
    elif how == "cancel":
        await store.cancel_timers(0, [TIMEOUT])
    else:
        await store.give_back(Claimed([b"work"], (), committed.receipts))
    assert await store.renew_attempts(0, [LOST], 1) == [False]
    assert (await drive.scan(lease)).next_due_in_ms is None


async def test_a_commit_for_a_taken_timer_that_was_not_moved_is_made(drive, store):
    (lease,) = await drive.own(0)
    await start(drive, timeout_ms=1, lease_ms=0)
    await drive.wait_for_due(lease)
    await drive.move(removed_fields=["r:1"], cancel_timers=[TIMEOUT], fired_timers=[TIMEOUT])
    assert (await drive.scan(lease)).next_due_in_ms is None


@pytest.mark.parametrize("how", ["extend", "renew", "cancel", "nobody took it"])
async def test_a_commit_for_a_timer_that_was_moved_is_refused(drive, store, how):
    """An extension that was granted after the timer was taken is valid."""
    (lease,) = await drive.own(0)
    key = LOST if how == "renew" else TIMEOUT
    nobody = how == "nobody took it"
    await start(drive, timeout_ms=HOUR_MS if how in ("renew", "nobody took it") else 1, lease_ms=1)
    if not nobody:
        assert [due.key for due in await drive.wait_for_due(lease, lease_ms=1000)] == [key]
    if how == "extend":
        assert await store.extend(0, TimerSetting(TIMEOUT, 1000))
    elif how == "renew":
        assert await store.renew_attempts(0, [LOST], 1000) == [True]
    elif how == "cancel":
        await store.cancel_timers(0, [TIMEOUT])
    before = await store.history(0, "flow", 0, 100)
    with pytest.raises(TimerMoved) as refused:
        await drive.move(
            removed_fields=["r:1"], history=[b'["T",1,1]'], cancel_timers=[key], fired_timers=[key], set_timers=[]
        )
    assert refused.value.timers == {str(key)}
    assert await store.history(0, "flow", 0, 100) == before
    assert (await store.load(0, "flow")).version == 1


async def test_an_extended_timer_can_be_taken_again(drive, store):
    (lease,) = await drive.own(0)
    await start(drive, timeout_ms=1, lease_ms=0)
    await drive.wait_for_due(lease)
    assert await store.extend(0, TimerSetting(TIMEOUT, 1))
    assert [due.key for due in await drive.wait_for_due(lease)] == [TIMEOUT]
    await drive.move(removed_fields=["r:1"], cancel_timers=[TIMEOUT], fired_timers=[TIMEOUT])


async def test_the_last_hand_out_of_an_attempt_is_known(drive, store):
    worker = 'w "1" \\ ü'
    committed = await start(drive, worker=worker)
    assert await store.last_hand_out(0, "flow", 1, 2) is None
    assert await store.last_hand_out(0, "flow", 11, 1) is None
    assert await store.last_hand_out(0, "other", 1, 1) is None
    found = await store.last_hand_out(0, "flow", 1, 1)
    assert (found.worker, 0 <= found.age_ms < HOUR_MS) == (worker, True)
    await store.give_back(Claimed([b"work"], (), committed.receipts))
    await store.claim("pay", [0], 1, "another")
    await drive.move(history=[b'["M",1,1,"",["x"]]'] * 2_500)
    assert (await store.last_hand_out(0, "flow", 1, 1)).worker == "another"
