"""The system actions: their answers, the problems that they find in definitions, and the runner of what they defer."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest

from orchy.actions import SYSTEM_ACTIONS
from orchy.actions.delay import DELAY_SECONDS_MAX
from orchy.actions.javascript.port import Evaluation, ScriptFailure
from orchy.actions.javascript.runner import ScriptRunner
from orchy.actions.runner import Done, NotDone
from orchy.flow.definition import JSON, Action, ActionType
from orchy.flow.execution import Finished
from orchy.flow.expressions.templates import FlowContext
from orchy.flow.system import Answer, Await, Defer, Fail, Finish, Sleep

CONTEXT = FlowContext(
    {"code": 200.0, "half": 0.5, "yes": True, "no": None, "list": [1, "x"], "long": "y" * 1000, "word": "MALE"},
    {1: Finished(1, {"gender": "FEMALE"})},
)


def action(name: str, *outcomes: str, **settings: JSON) -> Action:
    return Action(3, ActionType.SYSTEM, name, next=dict.fromkeys(outcomes, (4,)), settings=settings)


def start(definition: Action) -> Answer:
    return SYSTEM_ACTIONS[definition.name].start(definition, CONTEXT)


def problems(definition: Action) -> list[tuple[str, str]]:
    return [(problem.field, problem.message) for problem in SYSTEM_ACTIONS[definition.name].problems(definition)]


def test_the_registry_has_each_action_by_its_name() -> None:
    assert list(SYSTEM_ACTIONS) == ["delay", "javascript", "switch", "wait"]
    assert all(kind.name == name for name, kind in SYSTEM_ACTIONS.items())


def test_the_registry_can_not_be_changed_by_accident() -> None:
    with pytest.raises(TypeError):
        SYSTEM_ACTIONS["mine"] = SYSTEM_ACTIONS["delay"]  # type: ignore[index]


# delay


@pytest.mark.parametrize("seconds", [1, 0.001, DELAY_SECONDS_MAX])
def test_a_delay_sleeps(seconds: float) -> None:
    definition = action("delay", delaySeconds=seconds)
    assert problems(definition) == []
    assert start(definition) == Sleep(seconds)


@pytest.mark.parametrize("seconds", [0, -1, -0.5, math.nan, math.inf, -math.inf, DELAY_SECONDS_MAX + 1, 10**400])
def test_an_invalid_delay_is_a_problem(seconds: float) -> None:
    assert [field for field, _ in problems(action("delay", delaySeconds=seconds))] == ["delaySeconds"]


# wait


@pytest.mark.parametrize(
    ("settings", "timeout_seconds"), [({}, None), ({"timeoutSeconds": 0}, None), ({"timeoutSeconds": 0.5}, 0.5)]
)
def test_a_wait_awaits_its_event_for_ever_or_for_a_time(
    settings: dict[str, JSON], timeout_seconds: float | None
) -> None:
    definition = action("wait", event="open", **settings)
    assert problems(definition) == []
    assert start(definition) == Await("open", timeout_seconds)


@pytest.mark.parametrize("event", ["", "  ", "a\nb", "e" * 257])
def test_an_event_without_a_valid_name_is_a_problem(event: str) -> None:
    assert [field for field, _ in problems(action("wait", event=event))] == ["event"]


@pytest.mark.parametrize("seconds", [-1, math.nan, math.inf, 10**12])
def test_an_invalid_timeout_is_a_problem(seconds: float) -> None:
    assert [field for field, _ in problems(action("wait", event="e", timeoutSeconds=seconds))] == ["timeoutSeconds"]


# javascript


def test_a_script_is_handed_over_as_it_is_and_is_no_template() -> None:
    script = "$['x'] = '{$.input.code}{{$'"
    definition = action("javascript", expression=script)
    assert problems(definition) == []
    assert start(definition) == Defer("javascript", script)


def test_an_empty_script_is_a_problem() -> None:
    assert problems(action("javascript", expression=" \n")) == [("expression", "a javascript action needs a script")]


class Scripts:
    """A javascript engine that answers `ok` with what it was given, and fails all other scripts."""

    async def evaluate(
        self, expression: str, context: Mapping[str, JSON], workflow: str = ""
    ) -> Evaluation | ScriptFailure:
        if expression != "ok":
            return ScriptFailure("boo (line 1)", "throw")
        return Evaluation({**context, "of": workflow})


async def test_the_script_runner_runs_what_the_action_defers() -> None:
    runner = ScriptRunner(Scripts())
    for script, outcome in (("ok", Done({"input": 1, "of": "w"})), ("no", NotDone("boo (line 1)"))):
        deferred = start(action("javascript", expression=script))
        assert isinstance(deferred, Defer)
        assert await runner.run(deferred.payload, {"input": 1}, "w") == outcome


# switch


@pytest.mark.parametrize(
    ("expression", "outcome"),
    [
        ("{$.1.output.gender}", "FEMALE"),
        ("{$.input.word}", "MALE"),
        ("{$.input.code}", "200"),
        ("{$.input.half}", "0.5"),
        ("{$.input.yes}", "true"),
        ("{$.input.list}", '[1,"x"]'),
        ("{$.input.list[?(@ == 'x')]}", '["x"]'),
        ("{$.input.word}-{$.input.code}", "MALE-200"),
        ("{$.input.no}", ""),
        ("{$.input.nope}", ""),
        ("constant", "constant"),
    ],
)
def test_the_text_of_the_value_picks_the_outcome(expression: str, outcome: str) -> None:
    definition = action("switch", outcome, "default", "other", expression=expression)
    assert problems(definition) == []
    missing = (expression,) if expression == "{$.input.nope}" else ()
    assert start(definition) == Finish(outcome, missing=missing)


@pytest.mark.parametrize("expression", ["{$.input.word}", "{$.input.no}", "{$.input.nope}"])
def test_no_match_takes_the_default(expression: str) -> None:
    missing = (expression,) if expression == "{$.input.nope}" else ()
    assert start(action("switch", "a", "default", expression=expression)) == Finish("default", missing=missing)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("{$.input.code}", "the switch has no branch for '200' and no default"),
        ("{$.input.no}", "the switch has no branch for null and no default"),
        ("{$.input.nope}", "the switch has no branch for null ({$.input.nope} found nothing) and no default"),
        ("{$.input.long}", f"the switch has no branch for '{'y' * 200}...' and no default"),
    ],
)
def test_no_match_and_no_default_fails_and_names_the_value(expression: str, message: str) -> None:
    assert start(action("switch", "a", expression=expression)) == Fail(message)


def test_a_switch_without_branches_or_expression_is_a_problem() -> None:
    assert problems(action("switch", expression=" ")) == [
        ("next", "a switch needs branches in its next"),
        ("expression", "a switch needs an expression"),
    ]


def test_each_invalid_token_of_a_switch_is_a_problem() -> None:
    reported = problems(action("switch", "a", expression="{$} {$.input} {$.x"))
    assert [field for field, _ in reported] == ["expression", "expression"]
    assert "names nothing" in reported[0][1]
    assert "no closing brace" in reported[1][1]


def test_escapes_in_a_switch_without_a_token_are_read_as_in_one_with() -> None:
    definition = action("switch", "{$", expression="{{$")
    assert start(definition) == Finish("{$")
    assert SYSTEM_ACTIONS["switch"].outcomes(definition) == ("{$", "default")  # type: ignore[attr-defined]
