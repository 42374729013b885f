"""Hints for names that are probably typos: of workflows that are started, of events that are sent."""

from __future__ import annotations

import pytest
import trio

from orchy.engine.event_names import warning_of
from orchy.engine.limits import EngineLimits
from orchy.errors import NotFound, StoreUnavailable
from orchy.flow.definition import Action, ActionType, Workflow


def wait(number, event, then=()):
    return {"id": number, "type": "system", "name": "wait", "event": event, "next": {event: list(then)}}


async def why_not(engine, name):
    with pytest.raises(NotFound) as caught:
        await engine.execute(name, {})
    return str(caught.value)


async def test_a_workflow_of_almost_that_name(autojump_clock, engine, user):
    await engine.save(user(1, "a"), name="orders")
    await engine.save(user(1, "a"), name="returns")
    assert await why_not(engine, "oders") == "no workflow is named 'oders'; did you mean 'orders'?"
    assert await why_not(engine, "something") == "no workflow is named 'something'"
    with pytest.raises(NotFound, match="did you mean 'returns'"):
        await engine.catalog.workflow("return")


async def test_a_workflow_that_is_gone_is_not_meant(autojump_clock, engine, user):
    await engine.save(user(1, "a"), name="orders")
    await engine.execute("orders", {})
    await engine.store.delete_workflow("orders")  # by another node
    assert await why_not(engine, "oders") == "no workflow is named 'oders'"
    assert await why_not(engine, "orders") == "no workflow is named 'orders'"
    await engine.save(user(1, "a"), name="orders")
    await engine.catalog.delete_workflow("orders")
    assert await why_not(engine, "oders") == "no workflow is named 'oders'"


async def test_a_hint_is_not_worth_another_error(autojump_clock, engine, user, monkeypatch):
    await engine.save(user(1, "a"), name="orders")
    asked = []
    latest_version = engine.store.latest_version

    async def fail_later(name):
        asked.append(name)
        if len(asked) > 1:
            raise StoreUnavailable("it is not there")
        return await latest_version(name)

    monkeypatch.setattr(engine.store, "latest_version", fail_later)
    assert await why_not(engine, "oders") == "no workflow is named 'oders'"
    assert asked == ["oders", "orders"]


async def test_names_are_not_kept_without_end(autojump_clock, engines, store, user):
    engine = engines(store, engine_limits=EngineLimits(remembered_names=3))
    for number in range(10):
        await engine.save(user(1, "a"), name=f"workflow{number}")
    assert list(engine.catalog._names) == ["workflow7", "workflow8", "workflow9"]


# Events.


async def test_an_event_that_no_wait_has(autojump_clock, engine, user):
    await engine.save(user(1, "a", [2]), wait(2, "paid", [3]), wait(3, "sent"))
    flow_id = await engine.execute("w", {})
    assert await engine.orchestrator.event_warnings(flow_id, "paid") == []
    assert await engine.orchestrator.event_warnings(flow_id, "sent") == []
    (warning,) = await engine.orchestrator.event_warnings(flow_id, "payd")
    assert (warning.pointer, warning.message) == (
        "/event",
        "no wait of the workflow 'w' (version 1) has the event 'payd'; did you mean 'paid'?",
    )
    (warning,) = await engine.orchestrator.event_warnings(flow_id, "something")
    assert warning.message.endswith("; it waits for 'paid', 'sent'")


async def test_the_version_of_the_flow_is_what_counts(autojump_clock, engine, user):
    await engine.save(user(1, "a", [2]), wait(2, "paid"))
    flow_id = await engine.execute("w", {})
    await engine.save(user(1, "a"))
    assert await engine.orchestrator.event_warnings(flow_id, "paid") == []
    other = await engine.execute("w", {})
    (warning,) = await engine.orchestrator.event_warnings(other, "paid")
    assert warning.message.startswith("the workflow 'w' (version 2) waits for no event at all")


async def test_nothing_is_said_where_nothing_can_be_found_out(autojump_clock, engine, user, monkeypatch):
    assert await engine.orchestrator.event_warnings("nobody", "paid") == []
    await engine.save(user(1, "a"))
    flow_id = await engine.execute("w", {})

    async def fail(*_):
        await trio.lowlevel.checkpoint()
        raise StoreUnavailable("it is not there")

    monkeypatch.setattr(engine.catalog, "graph", fail)
    assert await engine.orchestrator.event_warnings(flow_id, "paid") == []


def test_many_events_are_not_all_listed():
    actions = {n: Action(n, ActionType.SYSTEM, "wait", settings={"event": f"e{n}"}) for n in range(1, 9)}
    warning = warning_of(Workflow("w", 1, actions), "x" * 10_000)
    assert warning is not None
    assert "'e5' and 3 more" in warning.message
    assert len(warning.message) < 400
