"""Every store: quarantine sets aside the timers of a flow, and affects nothing else."""

from __future__ import annotations

import pytest

from orchy.errors import VersionConflict
from orchy.store.flows import Listing

HOUR_MS = 3_600_000
ZED, FREE = b'["Z",0,0,"","a bug"]', b'["G",0,0,"","mended"]'


async def keys_of(due):
    return sorted(str(one.key) for one in due)


async def test_a_due_timer_of_a_flow_in_quarantine_is_set_aside_until_the_release(drive, store, timer):
    (lease,) = await drive.own(0)
    await drive.start("bad", set_timers=[timer("d:1:1:bad"), timer("w:2:1:bad", HOUR_MS)])
    await drive.start("good", set_timers=[timer("d:1:1:good")])
    assert await store.quarantine(0, "bad", "a bug", ZED) is True
    assert await keys_of(await drive.wait_for_due(lease)) == ["d:1:1:good"]
    scan = await drive.scan(lease)
    assert not scan.due
    assert scan.next_due_in_ms > HOUR_MS / 2
    assert await store.release_flow(0, "bad", FREE) is True
    assert await keys_of(await drive.wait_for_due(lease)) == ["d:1:1:bad"]


async def test_a_scan_that_finds_only_such_timers_returns_when_the_next_one_is_due(drive, store, timer):
    (lease,) = await drive.own(0)
    await drive.start("bad", set_timers=[timer("d:1:1:bad")])
    await store.quarantine(0, "bad", "a bug", ZED)
    scan = await drive.scan(lease)
    assert not scan.due
    assert scan.next_due_in_ms is None


async def test_the_flow_shows_since_when_and_why(drive, store):
    started = await drive.start("bad", history=[b'["S"]'])
    assert (await store.load(0, "bad")).quarantine is None
    await store.quarantine(0, "bad", "TypeError: é", ZED)
    stored = await store.load(0, "bad")
    assert stored.quarantine.error == "TypeError: é"
    assert stored.quarantine.since_ms >= started.time_ms
    assert stored.version == 1
    assert stored.fields == {"m": b"[]"}
    await store.release_flow(0, "bad", FREE)
    assert (await store.load(0, "bad")).quarantine is None
    assert [entry.entry for entry in await store.history(0, "bad", 0, 10)] == [b'["S"]', ZED, FREE]


async def test_only_a_running_flow_can_be_quarantined_and_only_once(drive, store):
    await drive.start("over")
    await drive.end("over")
    await drive.start("bad")
    assert await store.quarantine(0, "over", "a bug", ZED) is False
    assert await store.quarantine(0, "gone", "a bug", ZED) is False
    assert await store.quarantine(0, "bad", "first", ZED) is True
    assert await store.quarantine(0, "bad", "second", ZED) is False
    assert (await store.load(0, "bad")).quarantine.error == "first"
    assert len(await store.history(0, "bad", 0, 10)) == 1


async def test_a_flow_that_is_not_in_quarantine_can_not_be_released(drive, store):
    await drive.start("good")
    assert await store.release_flow(0, "good", FREE) is False
    assert await store.release_flow(0, "gone", FREE) is None
    assert await store.history(0, "good", 0, 10) == []


async def test_commits_go_on_in_quarantine_and_the_last_one_ends_it(drive, store, timer):
    (lease,) = await drive.own(0)
    await drive.start("bad", set_timers=[timer("d:1:1:bad")])
    await store.quarantine(0, "bad", "a bug", ZED)
    assert not (await drive.scan(lease)).due
    assert (await drive.move("bad", 1, fields={"o:1": b"1:2"})).version == 2
    with pytest.raises(VersionConflict):
        await drive.move("bad", 1)
    assert (await store.load(0, "bad")).quarantine is not None
    await drive.end("bad", 2)
    assert (await store.load(0, "bad")).quarantine is None
    assert await store.list_flows(0, [], None, 10, None, True) == []
    assert await store.release_flow(0, "bad", FREE) is False
    assert not (await drive.scan(lease)).due


async def test_removing_a_flow_removes_its_quarantine(drive, store):
    await drive.start("bad")
    await store.quarantine(0, "bad", "a bug", ZED)
    await drive.end("bad", 1, retain_ms=0)
    assert await store.load(0, "bad") is None
    assert await store.list_flows(0, [], None, 10, None, True) == []


async def test_a_release_does_not_move_a_timer_that_was_set_again(drive, store, timer):
    (lease,) = await drive.own(0)
    await drive.start("bad", set_timers=[timer("d:1:1:bad")])
    await store.quarantine(0, "bad", "a bug", ZED)
    assert not (await drive.scan(lease)).due
    await drive.move("bad", 1, set_timers=[timer("d:1:1:bad", HOUR_MS)])
    await store.release_flow(0, "bad", FREE)
    assert not (await drive.scan(lease)).due


async def test_flows_in_quarantine_are_listed_newest_first_in_pages(drive, store):
    places = []
    for number in range(7):
        name, workflow = f"flow-{number * 3 % 7}", f"w{number % 2}"
        places.append(((await drive.start(name, fields={"m": name.encode()}, workflow=workflow)).time_ms, name))
        if number != 3:
            await store.quarantine(0, name, f"bug {number}", ZED)
    del places[3]
    places.sort(reverse=True)
    found, before = [], None
    while page := await store.list_flows(0, list(Listing), "w1", 2, before, True):
        found += [(flow.created_ms, flow.flow_id) for flow in page]
        assert all(flow.quarantine.error.startswith("bug") for flow in page)
        before = found[-1]
    assert found == places
    listed = await store.list_flows(0, list(Listing), None, 10, None)
    assert sum(flow.quarantine is not None for flow in listed) == 6
    assert await store.list_flows(1, list(Listing), None, 10, None, True) == []
