"""The oracle and the product agree on the workflows that are drawn, and the oracle notices mistakes."""

from __future__ import annotations

import json
import random

import pytest

from orchy.actions import SYSTEM_ACTIONS
from orchy.flow import draft
from orchy.flow.definition import ActionType
from orchy.flow.effects import RecordType
from orchy.flow.events import TimerKind
from orchy.flow.execution import Finished
from orchy.flow.expressions.templates import FlowContext, as_text, compile_template
from orchy.flow.graph import Graph
from orchy.flow.validation.definitions import parse_workflow
from orchy.rpc.api.convert import EncodedActions, encode_action
from tests.simulation.books import Violation
from tests.simulation.decoding import (
    KINDS,
    LOST,
    PHASE_TIMERS,
    TIMEOUT,
    read_attempt,
    read_attempts,
    read_flow,
    read_record,
)
from tests.simulation.plan import Plan, resolve, text_of
from tests.simulation.queues import Queues
from tests.simulation.workload import PICKS, draw_input, draw_stages, draw_workflow

SEEDS = range(150)


def drawn(seed):
    rng = random.Random(seed)
    document = draw_workflow(rng, "wf", "NOOP")
    parsed = parse_workflow(json.dumps(document).encode(), SYSTEM_ACTIONS)
    assert parsed.workflow is not None, parsed.errors
    return rng, document, parsed.workflow


def some_finished(rng, workflow):
    return {id: {"token": f"t{id}", "pick": rng.choice(PICKS)} for id in workflow.actions if rng.random() < 0.5}


@pytest.mark.parametrize("seed", SEEDS)
def test_templates_are_resolved_as_the_product_does(seed):
    rng, _, workflow = drawn(seed)
    given, outputs = draw_input(rng), some_finished(rng, workflow)
    context = {"input": given, **{str(id): {"output": output} for id, output in outputs.items()}}
    product = FlowContext(given, {id: Finished(1, output) for id, output in outputs.items()})
    for action in workflow.actions.values():
        templates = [action.parameters]
        if action.name == "switch":
            templates.append(action.settings["expression"])
        for template in templates:
            value, _ = compile_template(template).resolve(product)
            assert resolve(template, context) == value
            assert text_of(resolve(template, context)) == as_text(value)


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_reached_is_what_the_graph_starts(seed):
    """Actions end in any order, with any of their outcomes."""
    rng, document, workflow = drawn(seed)
    graph, plan = Graph.of(workflow), Plan(document)
    joins, outcomes, started = {}, {}, [workflow.root]
    while True:
        assert plan.reached(outcomes) == set(started)
        open_ones = [id for id in started if id not in outcomes]
        if not open_ones:
            return
        id = rng.choice(open_ones)
        outcomes[id] = rng.choice([*workflow.actions[id].next, "another"])
        reached, changed = graph.settle(joins, id, outcomes[id])
        joins = {target: join for target, join in {**joins, **changed}.items() if join is not None}
        started += reached


@pytest.mark.parametrize("seed", range(30))
def test_what_a_worker_gets_is_read_as_it_was_written(seed):
    rng, _, workflow = drawn(seed)
    bodies, wanted = [], []
    for action in workflow.actions.values():
        if action.type is ActionType.USER:
            parameters = {**action.parameters, "input": draw_input(rng)}
            about = {"workflow": "wf", "flow_id": "f", "action_id": action.id, "name": action.name, "attempt": 300}
            bodies.append(encode_action(**about, parameters=parameters, timeout_seconds=2.5))
            wanted.append(((action.id, action.name, 300, 3), parameters))
    read = [read_attempt(body) for body in bodies]
    assert [((one.action_id, one.name, one.attempt, one.timeout_seconds), one.parameters) for one in read] == wanted
    assert read_attempts(EncodedActions(bodies, b"").SerializeToString()) == read


def test_a_flow_is_read_from_its_fields():
    fields = {
        "m": b'["wf",2,"PAUSED",null]',
        "i": b"[1]",
        "r:3": b"2:w:go",
        "j:4": b"1:0",
        "o:1": b'7:{"a":[":"]}',
        "x:1": b"6",
        "k:9": b'["go","id1",{"n":1}]',
        "k:10": b'["go","id2",2]',
        "d:0": b'["-id1","-id2"]',
        "l:1": b"1,2",
        "p": b"1",
    }
    flow = read_flow(fields)
    assert (flow.workflow, flow.version, flow.state, flow.paused, flow.over) == ("wf", 2, "PAUSED", True, False)
    assert (flow.running[3].attempt, flow.running[3].phase, flow.running[3].event) == (2, "w", "go")
    assert (flow.finished[1].attempt, flow.finished[1].output) == (7, {"a": [":"]})
    assert flow.kept == [("go", {"n": 1}, "id1"), ("go", 2, "id2")]
    assert read_flow({**fields, "e": b'[[["old",3,"id3"]],["id3"]]'}).kept == [*flow.kept, ("old", 3, "id3")]
    assert read_record(b'["C",1]') == ("COMPLETED", 1, 0, "", None)


def test_each_letter_of_a_history_is_known():
    assert {kind.value: kind.name for kind in RecordType} == KINDS


def test_each_phase_has_the_timer_that_the_product_gives_it():
    assert PHASE_TIMERS == draft.PHASE_TIMERS
    assert (TIMEOUT, LOST) == (TimerKind.TIMEOUT, TimerKind.LOST)


def test_stages_are_a_sound_workflow():
    assert parse_workflow(json.dumps(draw_stages("stages", "NOOP")).encode(), SYSTEM_ACTIONS).workflow is not None


def test_queues_know_what_comes_next():
    meanings = {}
    queues = Queues(lambda key: meanings.get(key[0], "live"))
    keys = [(name, 1, 1) for name in "abcdef"]
    for key in keys:
        queues.put(0, "pack", key)
    meanings["b"] = "paused"
    meanings["c"] = "stale"
    queues.hand_out(0, "pack", [keys[0], keys[3]], emptied=False)
    queues.put_back(0, "pack", [keys[0], keys[3]])
    meanings["b"] = "live"
    queues.resume("b")
    with pytest.raises(Violation, match="in the order"):
        queues.hand_out(0, "pack", [keys[3]], emptied=False)
    queues.hand_out(0, "pack", [keys[3], keys[4], keys[5]], emptied=False)
    with pytest.raises(Violation, match="said to be empty"):
        queues.hand_out(0, "pack", [], emptied=True)
    queues.hand_out(0, "pack", [keys[1]], emptied=True)
