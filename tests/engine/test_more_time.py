"""An extension of an attempt holds even if an owner was just about to time the attempt out."""

from __future__ import annotations

import trio

from orchy.engine.orchestrator import Result
from orchy.flow.definition import ActionDefinition
from orchy.flow.events import TimerKind
from orchy.ring import partition_of
from orchy.store.leases import Lease
from orchy.store.memory.store import MemoryStore
from orchy.store.timers import TimerKey
from tests.engine.parts import PARTITIONS, make_engine

TIMEOUT_SECONDS = 5


async def taken(engine, store):
    """A flow whose attempt's timeout an owner has taken and not handled yet."""
    await engine.catalog.save_action(ActionDefinition("a", retry_count=1, timeout_seconds=TIMEOUT_SECONDS))
    await engine.save({"id": 1, "type": "user", "name": "a", "next": []})
    engine.dispatcher.own(range(PARTITIONS))
    flow_id = await engine.execute("w", {})
    assert len(await engine.poll("a")) == 1
    (lease,) = await store.acquire([partition_of(flow_id, PARTITIONS)], "n", 60_000)
    await trio.sleep(TIMEOUT_SECONDS + 0.1)
    return flow_id, lease, await scan(store, lease)


async def scan(store, lease: Lease):
    ((due,),) = [one.due for one in await store.scan([lease], 10, 10_000)]
    return due


async def test_an_extension_that_was_granted_after_the_timer_was_taken_holds(autojump_clock):
    store = MemoryStore(trio.current_time)
    engine = make_engine(store)
    flow_id, lease, due = await taken(engine, store)
    assert due.key == TimerKey(TimerKind.TIMEOUT, 1, 1, flow_id)
    assert await engine.orchestrator.extend(flow_id, 1, 1)
    await engine.orchestrator.fire(due)
    assert (await engine.queries.flow(flow_id)).state == "RUNNING"
    await trio.sleep(TIMEOUT_SECONDS - 1)
    assert await engine.orchestrator.extend(flow_id, 1, 1)
    await trio.sleep(TIMEOUT_SECONDS + 0.1)
    await engine.orchestrator.fire(await scan(store, lease))
    flow = await engine.queries.flow(flow_id)
    assert (flow.state, "no result came in time" in flow.error) == ("FAILED", True)
    assert not await engine.orchestrator.extend(flow_id, 1, 1)


async def test_a_result_that_comes_together_with_a_timer_that_was_moved_counts(autojump_clock):
    store = MemoryStore(trio.current_time)
    engine = make_engine(store)
    flow_id, _, due = await taken(engine, store)
    assert await engine.orchestrator.extend(flow_id, 1, 1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.orchestrator.fire, due)
        nursery.start_soon(engine.orchestrator.push, Result(flow_id, 1, 1, {"ok": True}))
    assert (await engine.queries.flow(flow_id)).state == "COMPLETED"


async def test_a_timer_that_was_not_moved_is_handled_by_whichever_owner_took_it_last(autojump_clock):
    """Even if the previous owner was too slow: the timer is delivered twice, and ends the attempt once."""
    store = MemoryStore(trio.current_time)
    engine = make_engine(store)
    flow_id, lease, first = await taken(engine, store)
    await trio.sleep(11)
    again = await scan(store, lease)
    await engine.orchestrator.fire(first)
    await engine.orchestrator.fire(again)
    assert (await engine.types(flow_id)).count("TIMED_OUT") == 1
