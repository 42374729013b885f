"""Every store: which flows are listed, and in which order."""

from __future__ import annotations

import pytest

from orchy.store.flows import Listing

EVERYWHERE = list(Listing)
HOUR_MS = 3_600_000


def ids(listed):
    return [flow.flow_id for flow in listed]


async def start_flows(drive, count, **changes):
    """The flows' positions in the order of the listing."""
    names = [f"flow-{number * 7 % count}" for number in range(count)]
    times = [(await drive.start(name, fields={"m": name.encode()}, **changes)).time_ms for name in names]
    return sorted(zip(times, names, strict=True), reverse=True)


async def test_flows_are_listed_newest_first_with_their_meta(drive, store):
    places = await start_flows(drive, 10)
    listed = await store.list_flows(0, EVERYWHERE, None, 100, None)
    assert [(flow.created_ms, flow.flow_id) for flow in listed] == places
    assert [flow.meta for flow in listed] == [name.encode() for _, name in places]
    assert {flow.ended_ms for flow in listed} == {None}


@pytest.mark.parametrize("limit", [1, 3, 10, 50])
async def test_pages_follow_each_other_without_gaps_or_repetitions(drive, store, limit):
    places = await start_flows(drive, 25)
    found, before = [], None
    while page := await store.list_flows(0, EVERYWHERE, None, limit, before):
        assert len(page) <= limit
        found += [(flow.created_ms, flow.flow_id) for flow in page]
        before = found[-1]
        assert len(found) <= len(places)
    assert found == places


async def test_a_page_continues_after_a_flow_that_was_removed(drive, store):
    places = await start_flows(drive, 5)
    await drive.end(places[2][1], retain_ms=0)
    assert ids(await store.list_flows(0, EVERYWHERE, None, 100, places[2])) == [name for _, name in places[3:]]


async def test_flows_of_the_same_millisecond_are_ordered_by_the_bytes_of_their_ids(drive, store):
    names = ["a", "B", "b", "Z", "aa", "A", "é", "1", "_"]
    places = sorted([((await drive.start(name)).time_ms, name) for name in names], reverse=True)
    for place in places:
        after = [(flow.created_ms, flow.flow_id) for flow in await store.list_flows(0, EVERYWHERE, None, 100, place)]
        assert after == [other for other in places if other < place]
    # Before any id of that millisecond, and after all of them.
    newest_ms = places[0][0]
    assert ids(await store.list_flows(0, EVERYWHERE, None, 100, (newest_ms + 1, ""))) == [name for _, name in places]
    assert ids(await store.list_flows(0, EVERYWHERE, None, 100, (places[-1][0], ""))) == []


async def test_a_flow_moves_through_the_listings(drive, store):
    for name, listing in [("c", Listing.COMPLETED), ("f", Listing.FAILED), ("x", Listing.CANCELLED), ("a", None)]:
        await drive.start(name)
        if listing:
            await drive.move(name, listed_after=listing, retain_ms=HOUR_MS)

    async def listed(*listings):
        return sorted(ids(await store.list_flows(0, listings, None, 100, None)))

    assert await listed(Listing.ACTIVE) == ["a"]
    assert await listed(Listing.COMPLETED) == ["c"]
    assert await listed(Listing.FAILED) == ["f"]
    assert await listed(Listing.CANCELLED) == ["x"]
    assert await listed(Listing.FAILED, Listing.CANCELLED) == ["f", "x"]
    assert await listed(*EVERYWHERE) == ["a", "c", "f", "x"]


async def test_an_ended_flow_keeps_its_place_and_shows_its_end(drive, store):
    started = await drive.start("old")
    await drive.start("new")
    ended = await drive.end("old", fields={"m": b"done"})
    new, old = await store.list_flows(0, EVERYWHERE, None, 100, None)
    assert {new.flow_id, old.flow_id} == {"old", "new"}
    (found,) = [flow for flow in (new, old) if flow.flow_id == "old"]
    assert (found.created_ms, found.ended_ms, found.meta) == (started.time_ms, ended.time_ms, b"done")


async def test_workflows_are_listed_separately_and_together(drive, store):
    for number, workflow in enumerate(["orders", "bills", "orders", "a:b", "orders"]):
        await drive.start(f"flow-{number}", workflow=workflow)

    async def listed(workflow, limit=100):
        return sorted(ids(await store.list_flows(0, EVERYWHERE, workflow, limit, None)))

    assert await listed("orders") == ["flow-0", "flow-2", "flow-4"]
    assert await listed("a:b") == ["flow-3"]
    assert await listed("nobody's") == []
    assert len(await listed(None)) == 5
    assert len(await listed(None, limit=3)) == 3


async def test_the_newest_of_several_workflows_and_listings_are_merged(drive, store):
    places = []
    for number in range(24):
        name, workflow = f"flow-{number:02}", f"workflow-{number % 3}"
        places.append(((await drive.start(name, workflow=workflow)).time_ms, name))
        if number % 2:
            await drive.move(name, workflow=workflow, listed_after=Listing.FAILED, retain_ms=HOUR_MS)
    places.sort(reverse=True)
    for limit in (1, 5, 24, 30):
        listed = await store.list_flows(0, EVERYWHERE, None, limit, None)
        assert [(flow.created_ms, flow.flow_id) for flow in listed] == places[:limit]


async def test_partitions_are_listed_separately(drive, store):
    await drive.start("one", partition=1)
    await drive.start("two", partition=2)
    assert ids(await store.list_flows(1, EVERYWHERE, None, 100, None)) == ["one"]
    assert ids(await store.list_flows(3, EVERYWHERE, None, 100, None)) == []
