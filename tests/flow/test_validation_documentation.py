"""The examples of docs/definitions.md do what the page says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from orchy.actions import SYSTEM_ACTIONS
from orchy.flow.definition import JSON, ActionDefinition, JoinMode, RetryPolicy, Workflow
from orchy.flow.draft import Rules
from orchy.flow.effects import Enqueue
from orchy.flow.events import Completed, Started
from orchy.flow.execution import Finished, Flow, State
from orchy.flow.expressions.templates import FlowContext, compile_template
from orchy.flow.graph import Graph
from orchy.flow.machine import step
from orchy.flow.validation.definitions import parse_action_definition, parse_workflow

PAGE = Path(__file__).parents[2] / "docs" / "definitions.md"


def blocks(kind: str) -> list[str]:
    """The fenced blocks whose info string is `kind`."""
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def sound(source: str | dict[str, JSON]) -> Workflow:
    validated = parse_workflow(source, SYSTEM_ACTIONS)
    assert (validated.errors, validated.warnings) == ((), ())
    assert validated.workflow is not None
    return validated.workflow


def workflows() -> dict[str, Workflow]:
    return {workflow.name: workflow for workflow in map(sound, blocks("json workflow"))}


def test_every_block_is_of_a_kind_that_is_checked_here() -> None:
    kinds = re.findall(r"^```(\S.*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(kinds) == {
        *(f"json {kind}" for kind in ("workflow", "runs", "context", "expressions", "action", "invalid", "definition")),
        "text errors",
        "text warnings",
    }


def runs() -> list[dict[str, JSON]]:
    return [run for block in blocks("json runs") for run in json.loads(block)]


@pytest.mark.parametrize("run", runs(), ids=lambda run: f"{run['workflow']}-{run['input']}")
def test_workflows_run_the_actions_that_the_page_says_in_that_order(run: dict[str, JSON]) -> None:
    graph = Graph.of(workflows()[run["workflow"]])
    rules = Rules(SYSTEM_ACTIONS, {})
    made = step(graph, Flow("f", run["workflow"], 1, run["input"]), Started(), rules)
    queue = [effect for effect in made.effects if isinstance(effect, Enqueue)]
    ran: list[str] = []
    while queue:
        task = min(queue, key=lambda effect: turn(effect.run_id, graph))
        queue.remove(task)
        ran.append(task.name)
        made = step(graph, made.flow, Completed(task.run_id, 1, {}), rules)
        queue += [effect for effect in made.effects if isinstance(effect, Enqueue)]
    assert made.flow.state is State.COMPLETED
    assert ran == run["runs"]


def turn(run_id: int, graph: Graph) -> tuple[bool, int]:
    """What joins any goes first, to show that it does not wait; the rest as it is defined."""
    return graph.workflow.actions[run_id].join is not JoinMode.ANY, list(graph.workflow.actions).index(run_id)


def test_expressions_become_what_the_page_says() -> None:
    (source,) = blocks("json context")
    values = json.loads(source)
    flow_input = values.pop("input")
    context = FlowContext(flow_input, {int(key): Finished(1, value["output"]) for key, value in values.items()})
    (examples,) = blocks("json expressions")
    for example in json.loads(examples):
        value, missing = compile_template(example["from"]).resolve(context)
        assert (value, list(missing)) == (example["to"], example.get("missing", [])), example["from"]
        assert type(value) is type(example["to"]), example["from"]


@pytest.mark.parametrize("source", blocks("json action"), ids=lambda source: json.loads(source)["name"])
def test_examples_of_system_actions_are_sound(source: str) -> None:
    end = {"id": 2, "type": "user", "name": "end"}
    sound({"name": "w", "rootAction": 1, "actions": [json.loads(source), end]})


def test_there_is_an_example_of_each_system_action() -> None:
    assert sorted(json.loads(source)["name"] for source in blocks("json action")) == sorted(SYSTEM_ACTIONS)


def test_the_problems_of_the_broken_one_are_those_on_the_page() -> None:
    (source,), (errors,), (warnings,) = blocks("json invalid"), blocks("text errors"), blocks("text warnings")
    validated = parse_workflow(source, SYSTEM_ACTIONS)
    assert validated.workflow is None
    assert [str(problem) for problem in validated.errors] == errors.splitlines()
    assert [str(problem) for problem in validated.warnings] == warnings.splitlines()


def test_the_action_definition_is_read_as_the_page_says() -> None:
    (source,) = blocks("json definition")
    assert parse_action_definition(source) == ActionDefinition("charge-card", 3, 2, RetryPolicy.BACKOFF, 60)
