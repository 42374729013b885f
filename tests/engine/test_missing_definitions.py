"""A missing definition is an error that is reported and tried again, never a reason to drop anything."""

from __future__ import annotations

import logging

import pytest
import trio

from orchy.errors import DefinitionMissing, NotFound
from orchy.flow.execution import State
from orchy.flow.machine import Verdict
from orchy.rest.middleware.errors import error_response
from orchy.rpc.api.outcomes import status_of
from orchy.rpc.grpc.framing import Code
from orchy.store.memory.store import MemoryStore

SECONDS = 5


class Losing(MemoryStore):
    """A store that has lost its workflow definitions, until they are put back."""

    lost = False

    async def workflow(self, name, version=None):
        return None if self.lost else await super().workflow(name, version)


@pytest.fixture
def store(autojump_clock):
    return Losing(trio.current_time)


@pytest.fixture
def lose(store, engine):
    """Lose the definitions, including those that the node has compiled."""

    def lose():
        store.lost = True
        engine.catalog._graphs.clear()

    return lose


async def test_a_timer_whose_definition_is_missing_is_tried_again(autojump_clock, engine, store, lose, user, caplog):
    delay = {"id": 1, "type": "system", "name": "delay", "delaySeconds": SECONDS, "next": [2]}
    await engine.save(delay, user(2, "a"))
    flow_ids = [await engine.execute("w", {}) for _ in range(20)]
    lose()
    with caplog.at_level(logging.WARNING):
        await trio.sleep(SECONDS + 100)
    lines = [record.getMessage() for record in caplog.records if "has no version 1" in record.getMessage()]
    assert 1 <= len(lines) <= 3, "twenty timers fire every ten seconds, but it is logged once a minute"
    assert "comes again" in lines[0]
    assert (await engine.queries.flow(flow_ids[0])).state is State.WAITING_DELAY
    store.lost = False
    assert len(await engine.poll("a", limit=100, wait_seconds=60)) > 0
    await trio.sleep(30)
    assert {(await engine.queries.flow(flow_id)).state for flow_id in flow_ids} == {State.RUNNING}


async def test_a_result_whose_definition_is_missing_is_not_dropped(autojump_clock, engine, store, lose, user):
    await engine.save(user(1, "a"))
    flow_id = await engine.execute("w", {})
    (a,) = await engine.poll("a")
    lose()
    with pytest.raises(DefinitionMissing, match="workflow 'w' has no version 1, and flows run on it"):
        await engine.finish(a)
    with pytest.raises(DefinitionMissing):
        await engine.orchestrator.extend(flow_id, 1, 1)
    with pytest.raises(DefinitionMissing):
        await engine.orchestrator.pause("w", flow_id)
    with pytest.raises(DefinitionMissing):
        await engine.orchestrator.deliver("w", flow_id, "go", None)
    store.lost = False
    assert await engine.orchestrator.extend(flow_id, 1, 1)
    assert await engine.finish(a) is Verdict.APPLIED


async def test_a_history_is_shown_without_names(autojump_clock, engine, store, lose, user):
    await engine.save(user(1, "a"))
    flow_id = await engine.execute("w", {})
    lose()
    lines = await engine.queries.history(flow_id)
    assert [(line.type.name, line.action_id, line.action_name) for line in lines] == [
        ("STARTED", None, None),
        ("SCHEDULED", 1, None),
    ]


async def test_what_runs_on_it_can_be_said_to_callers(autojump_clock, engine, lose, user):
    await engine.save(user(1, "a"))
    lose()
    with pytest.raises(NotFound):
        await engine.start("w", {}, version=1)  # no flow runs on it yet: an error for the caller only
    with pytest.raises(DefinitionMissing) as missing:
        await engine.catalog.graph_of_flow("w", 1)
    response = error_response(missing.value)
    assert response.status == 503
    assert "was restored without it" in response.body.error
    assert status_of(missing.value).code is Code.UNAVAILABLE


async def test_the_timers_of_a_flow_that_is_gone_are_forgotten(autojump_clock, engine, store, user):
    await engine.save({"id": 1, "type": "system", "name": "delay", "delaySeconds": SECONDS})
    await engine.execute("w", {})
    partition = next(one for one in store._partitions.values() if one.flows)
    partition.flows.clear()
    engine.mover._cache.drop(next(iter(engine.mover._cache._flows)))
    await trio.sleep(SECONDS + 1)
    assert not partition.timers
