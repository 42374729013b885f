"""Every store: commits, flows, histories and retention."""

from __future__ import annotations

import pytest

from orchy.errors import VersionConflict
from orchy.store.flows import Listing
from orchy.store.leases import Lease
from orchy.store.limits import HISTORY_BYTES_MAX, HISTORY_ENTRIES_MAX
from orchy.store.queues import QueueEntry
from orchy.store.timers import TimerKey

EVERYWHERE = list(Listing)


async def listed_ids(store, partition=0, listings=EVERYWHERE, workflow=None):
    return [flow.flow_id for flow in await store.list_flows(partition, listings, workflow, 100, None)]


async def test_a_start_makes_version_1_with_the_commits_fields_and_time(drive, store):
    committed = await drive.start(fields={"m": b"meta", "i": b"\x00\r\n{}"}, history=[b'["S"]'])
    assert committed.version == 1
    assert committed.unparked == ()
    flow = await store.load(0, "flow")
    assert (flow.version, flow.created_ms, flow.ended_ms) == (1, committed.time_ms, None)
    assert flow.fields == {"m": b"meta", "i": b"\x00\r\n{}"}


async def test_an_unknown_flow_is_not_found(store):
    assert await store.load(0, "flow") is None
    assert await store.history(0, "flow", 0, 10) is None


async def test_a_second_start_is_refused_and_changes_nothing(drive, store):
    await drive.start(fields={"i": b"first"})
    before = await store.load(0, "flow")
    with pytest.raises(VersionConflict, match="version 1"):
        await drive.start(fields={"i": b"second"}, history=[b"[]"])
    assert await store.load(0, "flow") == before
    assert await store.history(0, "flow", 0, 10) == []


@pytest.mark.parametrize("version", [0, 1, 3, 20])
async def test_a_commit_on_another_version_changes_nothing_at_all(drive, store, timer, version):
    (lease,) = await drive.own(0)
    await drive.start_queued("flow", b"work", set_timers=[timer("w:7:1:flow", 3_600_000)])
    await drive.move("flow", 1)
    with pytest.raises(VersionConflict):
        await drive.move(
            "flow",
            version,
            fields={"a": b"1"},
            removed_fields=["r:1"],
            history=[b"[1]"],
            listed_after=Listing.FAILED,
            enqueue=[QueueEntry("other", 1, 1, 1, b"body")],
            set_timers=[timer("d:8:1:flow")],
            cancel_timers=[TimerKey.parse("w:7:1:flow")],
            retain_ms=1,
        )
    flow = await store.load(0, "flow")
    assert (flow.version, flow.ended_ms, flow.fields) == (2, None, {"m": b"[]", "r:1": b"1:q:"})
    assert await listed_ids(store, listings=[Listing.ACTIVE]) == ["flow"]
    scan = await drive.scan(lease)
    assert (list(scan.due), list(scan.ready)) == ([], ["pay"])
    assert scan.next_due_in_ms > 1_000_000
    assert await drive.claim() == [b"work"]


async def test_the_id_of_a_removed_flow_can_not_be_reused_for_a_while(drive, store):
    await drive.start()
    await drive.end(retain_ms=0)
    with pytest.raises(VersionConflict, match="version 0"):
        await drive.move("flow", 2)
    with pytest.raises(VersionConflict):
        await drive.start()
    assert await store.load(0, "flow") is None
    assert (await drive.start("another")).version == 1


async def test_a_commit_writes_and_removes_only_what_it_names(drive, store):
    await drive.start(fields={"o:1": b"1", "o:2": b"2", "p": b"3"})
    committed = await drive.move(fields={"o:2": b"20", "o:3": b"4"}, removed_fields=["p", "never-there"])
    assert committed.version == 2
    flow = await store.load(0, "flow")
    assert flow.fields == {"m": b"[]", "o:1": b"1", "o:2": b"20", "o:3": b"4"}
    assert flow.created_ms <= committed.time_ms


async def test_a_commit_without_fields_still_counts(drive, store):
    await drive.start()
    assert (await drive.move()).version == 2
    assert (await store.load(0, "flow")).version == 2


async def test_commits_may_be_large(drive, store):
    fields = {f"o:{number}": b"%d" % number for number in range(3_001)}
    await drive.start(fields=fields)
    assert (await store.load(0, "flow")).fields == {"m": b"[]", **fields}
    entries = [QueueEntry("pay", number, 1, 1, b"%d" % number) for number in range(1_500)]
    await drive.move(removed_fields=list(fields), enqueue=entries, fields={f"r:{n}": b"1:q:" for n in range(1_500)})
    assert len((await store.load(0, "flow")).fields) == 1_501
    assert [await drive.claim(), await drive.claim()] == [
        [b"%d" % number for number in range(100)],
        [b"%d" % number for number in range(100, 200)],
    ]


async def test_a_history_keeps_the_order_and_the_times_of_its_commits(drive, store):
    first = await drive.start(history=[b'["S"]', b'["Q",1,1]'])
    second = await drive.move(history=[b'["C",1,1,"w \\n \xc3\xa9"]'])
    entries = await store.history(0, "flow", 0, 10)
    assert [entry.entry for entry in entries] == [b'["S"]', b'["Q",1,1]', b'["C",1,1,"w \\n \xc3\xa9"]']
    assert [entry.time_ms for entry in entries] == [first.time_ms, first.time_ms, second.time_ms]


async def test_a_history_is_read_in_pages(drive, store):
    await drive.start(history=[b"[%d]" % number for number in range(2_500)])

    async def read(start, limit):
        return [entry.entry for entry in await store.history(0, "flow", start, limit)]

    assert await read(0, 3) == [b"[0]", b"[1]", b"[2]"]
    assert await read(2_498, 10) == [b"[2498]", b"[2499]"]
    assert await read(2_500, 10) == []
    assert await read(0, 0) == []
    assert await read(100, 2_000) == [b"[%d]" % number for number in range(100, 2_100)]
    assert len(await read(0, HISTORY_ENTRIES_MAX)) == 2_500


async def test_a_history_with_many_entries_loses_its_oldest(drive, store):
    await drive.start(history=[b"[%d]" % number for number in range(HISTORY_ENTRIES_MAX - 1)])
    await drive.move(history=[b'["a"]', b'["b"]', b'["c"]'])
    (oldest,) = await store.history(0, "flow", 0, 1)
    assert oldest.entry == b"[2]"
    newest = await store.history(0, "flow", HISTORY_ENTRIES_MAX - 1, 10)
    assert [entry.entry for entry in newest] == [b'["c"]']


async def test_hand_out_entries_count_towards_the_limit(drive, store):
    await drive.start_queued("flow", b"work", history=[b"[%d]" % number for number in range(HISTORY_ENTRIES_MAX)])
    assert await drive.claim() == [b"work"]
    (oldest,) = await store.history(0, "flow", 0, 1)
    assert oldest.entry == b"[1]"


async def test_a_history_with_many_bytes_loses_its_oldest_entries(drive, store):
    entries = [b"[%d]" % number + b"x" * (HISTORY_BYTES_MAX // 16 - 5) for number in range(10, 27)]
    await drive.start(history=entries[:16])
    assert len(await store.history(0, "flow", 0, 100)) == 16
    await drive.move(history=entries[16:])
    kept = [entry.entry[:4] for entry in await store.history(0, "flow", 0, 100)]
    assert kept == [b"[%d]" % number for number in range(15, 27)]
    await drive.move(version=2, history=[b"[27]"])
    assert len(await store.history(0, "flow", 0, 100)) == 13
    await drive.move(version=3, history=[b"x" * (HISTORY_BYTES_MAX + 1)])
    assert [len(entry.entry) for entry in await store.history(0, "flow", 0, 100)] == [HISTORY_BYTES_MAX + 1]
    assert "b" not in (await store.load(0, "flow")).fields


async def test_a_history_with_many_long_entries_is_cut(drive, store):
    await drive.start(history=[b"[%4d]" % number + b"x" * 10_000 for number in range(830)])
    await drive.move(history=[b"[]" + b"x" * 100_000])
    newest = await store.history(0, "flow", 0, 1_000)
    assert 0 <= HISTORY_BYTES_MAX // 4 * 3 - sum(len(entry.entry) for entry in newest) <= 10_006
    assert newest[0].entry.startswith(b"[%4d]" % (831 - len(newest)))


async def test_an_ended_flow_stays_until_its_retention_is_over(drive, store, wait_for):
    (lease,) = await drive.own(0)
    await drive.start("long")
    await drive.start("short", history=[b"[]"])
    await drive.end("long", retain_ms=3_600_000)
    ended = await drive.end("short", retain_ms=1)
    assert (await store.load(0, "short")).ended_ms == ended.time_ms
    assert await wait_for(lambda: store.expire([lease], 10)) == 1
    assert await store.load(0, "short") is None
    assert await store.history(0, "short", 0, 10) is None
    assert await listed_ids(store) == ["long"]
    assert await store.expire([lease], 10) == 0
    with pytest.raises(VersionConflict):
        await drive.start("short")


async def test_a_late_entry_leaves_an_ended_flow_as_it_ended(drive, store):
    await drive.start()
    ended = await drive.end()
    await drive.move(version=2, listed_before=Listing.COMPLETED, listed_after=Listing.COMPLETED, history=[b'["L"]'])
    flow = await store.load(0, "flow")
    assert (flow.version, flow.ended_ms) == (3, ended.time_ms)
    assert await listed_ids(store, listings=[Listing.COMPLETED]) == ["flow"]


async def test_expire_removes_at_most_its_limit_per_partition(drive, store, wait_for):
    leases = await drive.own(0, 1)
    for number in range(6):
        partition = number % 2
        await drive.start(f"flow-{number}", partition=partition)
        await drive.end(f"flow-{number}", partition=partition, retain_ms=1)
    removed = []
    while sum(removed) < 6:
        removed.append(await wait_for(lambda: store.expire(leases, 2)))
    assert max(removed) <= 4
    assert await store.expire(leases, 2) == 0


async def test_expire_skips_partitions_of_other_nodes(drive, store, wait_for):
    mine, other = await drive.own(0, 1)
    for partition in (0, 1):
        await drive.start(f"flow-{partition}", partition=partition)
        await drive.end(f"flow-{partition}", partition=partition, retain_ms=1)
    stale = Lease(1, other.epoch + 1)
    assert await wait_for(lambda: store.expire([mine, stale], 10)) == 1
    assert await store.load(1, "flow-1") is not None
    assert await store.expire([], 10) == 0


async def test_a_flow_without_retention_is_gone_with_its_last_commit(drive, store, timer):
    (lease,) = await drive.own(0)
    await drive.start(history=[b"[]"], set_timers=[timer("w:1:1:flow", 3_600_000)])
    committed = await drive.end(
        retain_ms=0,
        history=[b"[]"],
        fields={"a": b"1"},
        cancel_timers=[TimerKey.parse("w:1:1:flow")],
        set_timers=[timer("d:2:1:flow")],
        enqueue=[QueueEntry("pay", 2, 1, 1, b"never")],
    )
    assert committed.version == 2
    assert await store.load(0, "flow") is None
    assert await store.history(0, "flow", 0, 10) is None
    assert await listed_ids(store) == []
    scan = await drive.scan(lease)
    assert (list(scan.due), scan.next_due_in_ms, list(scan.ready)) == ([], None, [])


async def test_a_flow_may_start_and_end_with_one_commit(drive, store):
    await drive.start("kept", listed_after=Listing.COMPLETED, retain_ms=3_600_000)
    await drive.start("gone", listed_after=Listing.COMPLETED, retain_ms=0)
    assert await listed_ids(store, listings=[Listing.COMPLETED]) == ["kept"]
    assert await listed_ids(store) == ["kept"]
