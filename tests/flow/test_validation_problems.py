"""Validation of workflow definitions: every problem at its place, and none for valid definitions."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping
from types import MappingProxyType

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchy.actions import SYSTEM_ACTIONS
from orchy.errors import Problem
from orchy.flow.definition import JSON, Action, ActionType, JoinMode, OnEnd
from orchy.flow.graph import Graph
from orchy.flow.system import Answer, Context, Field, FieldProblem, Finish
from orchy.flow.validation import definitions as validation
from orchy.flow.validation.definitions import DeclaresOutcomes, Validated, parse_workflow
from orchy.flow.validation.report import PROBLEMS_MAX

NOTIFICATION = """{"name": "notificationWorkflow", "rootAction": 1, "onSuccess": "NOOP", "onFailure": "DELETE",
 "actions": [
  {"id": 1, "type": "user", "name": "query-db", "parameters": {"userId": "{$.input.userId}"}, "next": {"default": [2]}},
  {"id": 2, "type": "system", "name": "javascript", "expression": "$['user']=$['1'].output.user;",
   "next": {"default": [3]}},
  {"id": 3, "type": "SYSTEM", "name": "switch", "expression": "{$.1.output.user.gender}",
   "next": {"MALE": [4], "FEMALE": [5]}},
  {"id": 4, "type": "user", "name": "sendSms", "parameters": {"message": "Hi {$.2.output.user.discount} %"},
   "next": {"default": [6]}},
  {"id": 5, "type": "User", "name": "sendEmail", "next": {"default": [7]}},
  {"id": 6, "type": "system", "name": "delay", "delaySeconds": 10, "next": {"default": [8]}},
  {"id": 7, "type": "system", "name": "wait", "event": "open", "timeoutSeconds": 20,
   "next": {"default": [10], "open": [9]}},
  {"id": 8, "type": "user", "name": "sendWhatsapp"},
  {"id": 9, "type": "user", "name": "sendSms", "join": "any"},
  {"id": 10, "type": "user", "name": "sendEmail"}
 ]}"""


def user(number: int, *then: int, **fields: JSON) -> dict[str, JSON]:
    following = {"next": {"default": list(then)}} if then else {}
    return {"id": number, "type": "user", "name": f"a{number}", **following, **fields}


def system(number: int, name: str, **fields: JSON) -> dict[str, JSON]:
    return {"id": number, "type": "system", "name": name, **fields}


def workflow(*actions: JSON, **fields: JSON) -> dict[str, JSON]:
    return {"name": "w", "rootAction": 1, "actions": list(actions), **fields}


def parse(source: bytes | str | Mapping[str, JSON], known: Iterable[str] | None = None) -> Validated:
    return parse_workflow(source, SYSTEM_ACTIONS, None if known is None else set(known))


def reported(problems: Iterable[Problem]) -> list[tuple[str, str]]:
    return [(problem.pointer, problem.message) for problem in problems]


def errors(*actions: JSON, **fields: JSON) -> list[tuple[str, str]]:
    validated = parse(workflow(*actions, **fields))
    assert (validated.workflow is None) == bool(validated.errors)
    return reported(validated.errors)


def warnings(*actions: JSON, **fields: JSON) -> list[tuple[str, str]]:
    validated = parse(workflow(*actions, **fields))
    assert not validated.errors
    return reported(validated.warnings)


# Valid definitions.


@pytest.mark.parametrize("source", [NOTIFICATION, NOTIFICATION.encode(), json.loads(NOTIFICATION)])
def test_a_sound_definition_becomes_a_workflow(source: bytes | str | dict[str, JSON]) -> None:
    validated = parse(source, {"query-db", "sendSms", "sendEmail", "sendWhatsapp"})
    assert (validated.errors, validated.warnings) == ((), ())
    made = validated.workflow
    assert made is not None
    assert (made.name, made.root, made.version) == ("notificationWorkflow", 1, 0)
    assert (made.on_success, made.on_failure) == (OnEnd.NOOP, OnEnd.DELETE)
    assert list(made.actions) == list(range(1, 11))
    assert made.actions[1] == Action(
        1, ActionType.USER, "query-db", parameters={"userId": "{$.input.userId}"}, next={"default": (2,)}
    )
    assert made.actions[7] == Action(
        7,
        ActionType.SYSTEM,
        "wait",
        next={"default": (10,), "open": (9,)},
        settings={"event": "open", "timeoutSeconds": 20},
    )
    assert made.actions[9].join is JoinMode.ANY
    assert made.source == json.loads(NOTIFICATION)
    Graph.of(made)


def test_null_is_as_good_as_absent() -> None:
    action = {"parameters": None, "next": None, "join": None, **system(1, "wait", event="e", timeoutSeconds=None)}
    validated = parse(workflow(action, onSuccess=None))
    assert not validated.errors
    assert validated.workflow is not None
    assert validated.workflow.actions[1] == Action(1, ActionType.SYSTEM, "wait", settings={"event": "e"})


def test_words_of_a_choice_are_read_in_any_case() -> None:
    validated = parse(workflow(user(1, type="uSeR", join="ANY"), onSuccess="delete", onFailure="Noop"))
    assert validated.workflow is not None
    assert validated.workflow.on_success is OnEnd.DELETE
    assert validated.workflow.actions[1].join is JoinMode.ANY


def test_a_mapping_of_another_kind_is_read_too() -> None:
    assert parse(MappingProxyType(workflow(user(1)))).workflow is not None


def test_several_outcomes_may_lead_to_the_same_action() -> None:
    assert errors(system(1, "switch", expression="{$.input}", next={"a": [2], "b": [2], "": []}), user(2)) == []


def test_ten_thousand_actions_in_a_chain_are_fine() -> None:
    count = validation.ACTIONS_MAX
    assert errors(*(user(n, n + 1) for n in range(1, count)), user(count)) == []


# Errors: one by one.


@pytest.mark.parametrize(
    ("actions", "expected"),
    [
        ([user(1, 2)], [("/actions/0/next/default/0", "there is no action 2")]),
        ([user(2)], [("/rootAction", "there is no action 1")]),
        ([user(1), user(1)], [("/actions/1/id", "the id 1 is that of /actions/0 already")]),
        ([user(1), user(2)], [("/actions/1", "nothing leads from the root to action 2")]),
        ([user(1, 1)], [("/actions/0/next/default/0", "the actions form a cycle: 1 -> 1")]),
        (
            [user(1, 2), user(2, 3), user(3, 4, 1), user(4)],
            [("/actions/2/next/default/1", "the actions form a cycle: 1 -> 2 -> 3 -> 1")],
        ),
        (
            [user(1, 2), user(2, 3), user(3, 2)],
            [("/actions/2/next/default/0", "the actions form a cycle: 2 -> 3 -> 2")],
        ),
        (
            [user(1), user(2, 3), user(3, 2)],
            [
                ("/actions/2/next/default/0", "the actions form a cycle: 2 -> 3 -> 2"),
                ("/actions/1", "nothing leads from the root to action 2"),
                ("/actions/2", "nothing leads from the root to action 3"),
            ],
        ),
        (
            [user(1, 2, 3), user(2, 1), user(3, 1)],
            [
                ("/actions/1/next/default/0", "the actions form a cycle: 1 -> 2 -> 1"),
                ("/actions/2/next/default/0", "the actions form a cycle: 1 -> 3 -> 1"),
            ],
        ),
        (
            [5],
            [
                ("/actions/0", "an action must be an object, not a whole number"),
                ("/rootAction", "there is no action 1"),
            ],
        ),
        ([], [("/actions", "a workflow has from 1 to 10,000 actions, not 0")]),
        ([user(1, type="robot")], [("/actions/0/type", "type must be 'user' or 'system', not 'robot'")]),
        ([user(1, join="some")], [("/actions/0/join", "join must be 'all' or 'any', not 'some'")]),
        ([user(1, type=1)], [("/actions/0/type", "type must be a text, not a whole number")]),
        ([user(1, name="")], [("/actions/0/name", "the name must not be empty")]),
        ([user(1, name=" \t")], [("/actions/0/name", "the name must not be empty")]),
        ([user(1, name="a\nb")], [("/actions/0/name", "the name must not have control characters")]),
        ([user(1, name="a" * 257)], [("/actions/0/name", "the name must not be longer than 256 characters")]),
        ([user(1, parameters=[1])], [("/actions/0/parameters", "parameters must be an object, not a list")]),
        ([user(1, next=[2])], [("/actions/0/next", "next must be an object, not a list")]),
        (
            [user(1, next={"default": 2})],
            [("/actions/0/next/default", "what follows an outcome must be a list of action ids, not a whole number")],
        ),
        (
            [user(1, next={"default": [True, "2", 2.5]})],
            [
                ("/actions/0/next/default/0", "an action's id must be a whole number, not a boolean"),
                ("/actions/0/next/default/1", "an action's id must be a whole number, not a text"),
                ("/actions/0/next/default/2", "an action's id must be a whole number, not the number 2.5"),
            ],
        ),
        (
            [system(1, "switch", expression="{$.input}", next={"a" * 257: []})],
            [(f"/actions/0/next/{'a' * 257}", "an outcome is longer than 256 characters")],
        ),
        (
            [system(1, "jump")],
            [("/actions/0/name", "there is no system action 'jump'; there are delay, javascript, switch, wait")],
        ),
        ([system(1, "delay")], [("/actions/0", "the system action delay needs the field 'delaySeconds'")]),
        (
            [system(1, "delay", delaySeconds=True)],
            [("/actions/0/delaySeconds", "delaySeconds must be a number, not a boolean")],
        ),
        (
            [system(1, "delay", delaySeconds=0)],
            [("/actions/0/delaySeconds", "delaySeconds must be more than 0 and at most 1,000,000,000")],
        ),
        (
            [system(1, "wait", timeoutSeconds=-1)],
            [("/actions/0", "the system action wait needs the field 'event'")],
        ),
        (
            [system(1, "wait", event="", timeoutSeconds=-1)],
            [
                ("/actions/0/event", "the event's name must not be empty"),
                ("/actions/0/timeoutSeconds", "timeoutSeconds must be from 0 (for ever) to 1,000,000,000"),
            ],
        ),
        (
            [system(1, "switch", expression="{$.input")],
            [
                ("/actions/0", "a switch needs branches in its next"),
                (
                    "/actions/0/expression",
                    "the expression '{$.input' has no closing brace; write {{$ for a literal {$",
                ),
            ],
        ),
        (
            [system(1, "switch", expression="{$.input}", next={})],
            [("/actions/0/next", "a switch needs branches in its next")],
        ),
        (
            [system(1, "switch", expression="{$.input}", next=5)],
            [("/actions/0/next", "next must be an object, not a whole number")],
        ),
        (
            [user(1, parameters={"a": ["x", {"b": "{$.input} {$} {$x}"}], "{$": 1})],
            [
                (
                    "/actions/0/parameters/a/1/b",
                    "the expression '{$}' names nothing: say which value of $ is meant, such as $.input",
                ),
                ("/actions/0/parameters/a/1/b", "the expression '{$x}' has neither '.' nor '[' after its $"),
            ],
        ),
    ],
)
def test_each_error_is_found_at_its_place(actions: list[JSON], expected: list[tuple[str, str]]) -> None:
    assert errors(*actions) == expected


@pytest.mark.parametrize("number", [0, -1, 2**31, True, "1", 1.0, 10**30])
def test_an_id_is_a_positive_int32(number: JSON) -> None:
    (pointer, message), *_ = errors({"id": number, "type": "user", "name": "a"})
    assert pointer == "/actions/0/id"
    assert message.startswith(("an action's id must be from 1", "id must be a whole number"))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"name": 5}, ("/name", "name must be a text, not a whole number")),
        ({"name": None}, ("", "a workflow definition needs the field 'name'")),
        ({"rootAction": "1"}, ("/rootAction", "rootAction must be a whole number, not a text")),
        ({"rootAction": True}, ("/rootAction", "rootAction must be a whole number, not a boolean")),
        ({"rootAction": None}, ("", "a workflow definition needs the field 'rootAction'")),
        ({"actions": {}}, ("/actions", "actions must be a list, not an object")),
        ({"actions": None}, ("", "a workflow definition needs the field 'actions'")),
        ({"onSuccess": "KEEP"}, ("/onSuccess", "onSuccess must be 'NOOP' or 'DELETE', not 'KEEP'")),
        ({"onFailure": False}, ("/onFailure", "onFailure must be a text, not a boolean")),
    ],
)
def test_each_field_of_the_workflow_is_checked(fields: dict[str, JSON], expected: tuple[str, str]) -> None:
    assert reported(parse({**workflow(user(1)), **fields}).errors) == [expected]


@pytest.mark.parametrize("source", ["[]", b"5", '"text"', "null", b"true", "1.5"])
def test_what_is_no_object_is_no_definition(source: bytes | str) -> None:
    (problem,) = parse(source).errors
    assert problem.message.startswith("a workflow definition must be an object, not ")
    assert (problem.line, problem.column) == (1, 1)


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), 1e10, 10**400, 10**12])
def test_a_delay_that_is_no_time_is_refused_also_from_python(seconds: float) -> None:
    (problem,) = parse(workflow(system(1, "delay", delaySeconds=seconds))).errors
    assert problem.pointer == "/actions/0/delaySeconds"


def test_python_values_that_are_not_json_are_refused() -> None:
    validated = parse({**workflow(user(1, parameters={"a": {1, 2}})), "x": (1,)})
    assert reported(validated.errors) == [
        ("/actions/0/parameters/a", "set is not a JSON type"),
        ("/x", "tuple is not a JSON type"),
    ]


def test_text_that_is_not_json_is_one_error_with_line_and_column() -> None:
    (problem,) = parse('{"name": "w",\n "rootAction": 1,\n "actions": [}').errors
    assert (problem.line, problem.column, problem.message) == (3, 14, "a value is expected, not '}'")


def test_keys_that_are_there_twice_are_errors() -> None:
    (problem,) = parse('{"name": "w", "rootAction": 1, "actions": [{"id": 1,\n"id": 2}]}').errors
    assert (str(problem)) == "/actions/0/id (line 2, column 1): the key 'id' is there twice"


def test_a_definition_too_large_is_refused_unread() -> None:
    (problem,) = parse(b" " * (validation.DEFINITION_BYTES_MAX + 1)).errors
    assert "larger than" in problem.message


def test_too_many_actions_and_edges_are_refused() -> None:
    assert errors(*[user(1)] * (validation.ACTIONS_MAX + 1)) == [
        ("/actions", "a workflow has from 1 to 10,000 actions, not 10,001")
    ]
    targets = list(range(2, 403))
    actions = [user(1, *targets), *(user(n, *(t for t in targets if t != n)) for n in range(2, 403))]
    assert errors(*actions) == [("/actions", "a workflow has at most 100,000 edges, not 160,801")]


def test_a_long_cycle_is_shown_by_its_ends() -> None:
    ((_, message),) = errors(*(user(n, n % 1000 + 1) for n in range(1, 1001)))
    assert message.startswith("the actions form a cycle: 1 -> 2 -> 3 -> ")
    assert message.endswith(" -> 999 -> 1000 -> 1")
    assert "-> 20 -> (961 more) -> 982 ->" in message


def test_many_cycles_are_reported_up_to_a_bound() -> None:
    ids = range(1, 101)
    assert len(errors(*(user(n, *ids) for n in ids))) == 20


def test_problems_are_reported_up_to_a_bound_and_then_counted() -> None:
    found = errors(user(1), *[5] * (PROBLEMS_MAX + 7))
    assert len(found) == PROBLEMS_MAX + 1
    assert found[-1] == ("", "and 7 more")


def test_all_problems_are_found_at_once_in_the_order_of_the_text() -> None:
    text = """{"name": "", "rootAction": 9, "x": 1,
 "actions": [
  {"id": 1, "type": "USER", "name": "a", "parameters": {"k": ["{$.", 1]}, "next": {"default": [2, 2], "open": [7]}},
  {"id": 2, "type": "system", "name": "delay", "delaySeconds": 0, "next": {"default": [3]}},
  {"id": 3, "type": "system", "name": "switch", "expression": "{$.1.output}", "next": {"a": [1], "b": "x"}},
  {"id": 3, "type": "system", "name": "wait", "event": ""},
  {"id": true, "type": "sys", "name": "nope"},
  {"id": 4, "type": "system", "name": "nope"}
 ]}"""
    validated = parse(text, known=())
    assert validated.workflow is None
    assert [(p.pointer, p.line, p.column) for p in validated.errors] == [
        ("/name", 1, 10),
        ("/rootAction", 1, 28),
        ("/actions/0/parameters/k/0", 3, 63),
        ("/actions/0/next/open/0", 3, 112),
        ("/actions/1/delaySeconds", 4, 64),
        ("/actions/2/next/a/0", 5, 94),
        ("/actions/2/next/b", 5, 103),
        ("/actions/3/id", 6, 10),
        ("/actions/3/event", 6, 56),
        ("/actions/4/id", 7, 10),
        ("/actions/4/type", 7, 24),
        ("/actions/5/name", 8, 39),
    ]
    lines = text.split("\n")
    for problem in (*validated.errors, *validated.warnings):
        assert problem.line is not None
        assert problem.column is not None
        assert lines[problem.line - 1][problem.column - 1] in '"0123456789[{t'
    assert [(p.pointer, p.line, p.column) for p in validated.warnings] == [
        ("/x", 1, 31),
        ("/actions/0/name", 3, 37),
        ("/actions/0/next/default/1", 3, 99),
        ("/actions/0/next/open", 3, 103),
    ]


# Warnings.


@pytest.mark.parametrize(
    ("actions", "expected"),
    [
        ([user(1, retries=3)], [("/actions/0/retries", "a user action has no field 'retries': it is ignored")]),
        (
            [user(1, delaySeconds=3)],
            [("/actions/0/delaySeconds", "a user action has no field 'delaySeconds': it is ignored")],
        ),
        (
            [system(1, "delay", delaySeconds=3, event="x")],
            [("/actions/0/event", "the system action delay has no field 'event': it is ignored")],
        ),
        (
            [system(1, "delay", delaySeconds=3, parameters={"a": 1})],
            [("/actions/0/parameters", "the system action delay takes no parameters: they are ignored")],
        ),
        (
            [user(1, next={"default": [2, 2]}), user(2)],
            [("/actions/0/next/default/1", "action 2 follows this outcome already")],
        ),
        (
            [user(1, next={"open": [2]}), user(2)],
            [("/actions/0/next/open", "the outcome 'open' can't happen here: only 'default' can")],
        ),
        (
            [system(1, "delay", delaySeconds=1, next={"open": []})],
            [("/actions/0/next/open", "the outcome 'open' can't happen here: only 'default' can")],
        ),
        (
            [system(1, "javascript", expression="1", next={"x": []})],
            [("/actions/0/next/x", "the outcome 'x' can't happen here: only 'default' can")],
        ),
        (
            [system(1, "wait", event="open", timeoutSeconds=1, next={"close": [], "open": [], "default": []})],
            [("/actions/0/next/close", "the outcome 'close' can't happen here: only 'open' or 'default' can")],
        ),
        (
            [system(1, "wait", event="open", next={"default": []})],
            [("/actions/0/next/default", "the outcome 'default' can't happen here: only 'open' can")],
        ),
        (
            [system(1, "switch", expression="$.input.x", next={"a": [], "default": []})],
            [
                ("/actions/0/next/a", "the outcome 'a' can't happen here: only '$.input.x' or 'default' can"),
                (
                    "/actions/0/expression",
                    "'$.input.x' looks like an expression but is taken literally; write {$.input.x}",
                ),
            ],
        ),
        (
            [user(1, parameters={"a": ["{$.inptu.x}"], "b": "{$.7.output} {$.1.user} {$.input.x} {$..x} {$.1}"})],
            [
                (
                    "/actions/0/parameters/a/0",
                    "'{$.inptu.x}' finds nothing: 'inptu' is neither 'input' nor the id of an action",
                ),
                (
                    "/actions/0/parameters/b",
                    "'{$.7.output}' finds nothing: '7' is neither 'input' nor the id of an action",
                ),
                ("/actions/0/parameters/b", "'{$.1.user}' finds nothing: an action has only 'output'"),
            ],
        ),
        (
            [system(1, "switch", expression="{$.1.gender}", next={"a": []})],
            [("/actions/0/expression", "'{$.1.gender}' finds nothing: an action has only 'output'")],
        ),
        ([system(1, "javascript", expression="'{$' + {$x: 1}")], []),
    ],
)
def test_what_hardly_means_what_it_says_is_a_warning(actions: list[JSON], expected: list[tuple[str, str]]) -> None:
    assert warnings(*actions) == expected


def test_an_unknown_field_of_the_workflow_is_a_warning() -> None:
    assert warnings(user(1), owner="me") == [("/owner", "a workflow definition has no field 'owner': it is ignored")]


def test_a_user_action_that_no_worker_registered_is_a_warning() -> None:
    source = workflow(user(1, 2), user(2), system(3, "delay", delaySeconds=1))
    source["actions"][1]["next"] = {"default": [3]}
    validated = parse(source, {"a1"})
    assert validated.workflow is not None
    assert reported(validated.warnings) == [("/actions/1/name", "no worker has registered the action 'a2' yet")]
    assert parse(source).warnings == ()


def test_an_outcome_that_is_there_twice_over_leads_to_its_action_once() -> None:
    made = parse(workflow(user(1, 2, 2), user(2))).workflow
    assert made is not None
    assert made.actions[1].next == {"default": (2,)}


# Custom system actions.


class Plain:
    """A system action with nothing but what the port requires."""

    name = "plain"
    fields: Mapping[str, Field] = {"level": Field((int,)), "flag": Field((bool, str)), "list": Field((list,))}

    def problems(self, action: Action) -> Iterable[FieldProblem]:
        if action.settings.get("level") == 13:
            yield FieldProblem("level", "not 13")
            yield FieldProblem("", "not this")

    def start(self, action: Action, context: Context) -> Answer:
        return Finish()


def test_a_custom_system_action_is_checked_by_its_fields_and_problems() -> None:
    kinds = {"plain": Plain()}
    assert not isinstance(kinds["plain"], DeclaresOutcomes)
    assert all(isinstance(kind, DeclaresOutcomes) for kind in SYSTEM_ACTIONS.values())

    def reported_for(**fields: JSON) -> list[tuple[str, str]]:
        validated = parse_workflow(workflow(system(1, "plain", **fields)), kinds)
        return reported((*validated.errors, *validated.warnings))

    assert reported_for(level=1, flag=True, list=[], next={"anything": []}) == []
    assert reported_for(level=13) == [("/actions/0/level", "not 13"), ("/actions/0", "not this")]
    assert reported_for(flag=5) == [("/actions/0/flag", "flag must be true or false or a text, not a whole number")]
    assert reported_for(list={}) == [("/actions/0/list", "list must be a list, not an object")]


# Never a traceback.

names = st.sampled_from(
    ["id", "type", "name", "next", "parameters", "actions", "rootAction", "expression", "event", "x"]
)
leaves = (
    st.none()
    | st.booleans()
    | st.integers(-2, 5)
    | st.sampled_from([2**40, 1e300, 0.5, "user", "system", "switch", "delay", "wait", "{$.1.output}", "{$", "", "a"])
    | st.text(max_size=3)
)
anything = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names | st.text(max_size=2), inner, max_size=6),
    max_leaves=20,
)
loose_actions = st.fixed_dictionaries(
    {"id": st.integers(0, 4) | leaves, "type": st.sampled_from(["user", "system", "?"]) | leaves},
    optional={
        "name": st.sampled_from([*SYSTEM_ACTIONS, "a"]) | anything,
        "next": st.dictionaries(st.sampled_from(["default", "a", "open"]), st.lists(st.integers(0, 4)) | anything)
        | anything,
        "parameters": anything,
        "expression": leaves,
        "event": leaves,
        "delaySeconds": leaves,
        "timeoutSeconds": leaves,
        "join": leaves,
        "x": leaves,
    },
)
loose_workflows = st.fixed_dictionaries(
    {},
    optional={
        "name": leaves,
        "rootAction": st.integers(0, 4),
        "actions": st.lists(loose_actions | anything, max_size=5),
    },
)


@settings(max_examples=300)
@given(loose_workflows | anything, st.sampled_from([None, frozenset({"a"})]))
def test_any_json_is_validated_without_a_traceback_and_the_same_as_text_or_object(
    source: JSON, known: frozenset[str] | None
) -> None:
    before = copy.deepcopy(source)
    text = json.dumps(source, indent=1)
    validated = parse(text, known)
    assert validated.errors or validated.workflow
    assert bool(validated.errors) != bool(validated.workflow)
    lines = text.split("\n")
    for problem in (*validated.errors, *validated.warnings):
        assert problem.line is not None
        assert problem.column is not None
        assert 1 <= problem.column <= len(lines[problem.line - 1])
        value_at(source, problem.pointer)
    if isinstance(source, dict):
        again = parse(source, known)
        assert sorted(reported(again.errors)) == sorted(reported(validated.errors))
        assert sorted(reported(again.warnings)) == sorted(reported(validated.warnings))
        assert source == before
    if validated.workflow is not None:
        Graph.of(validated.workflow)
        saved = msgspec.json.encode(validated.workflow.source, order="deterministic")
        assert parse(saved).workflow is not None


def value_at(value: JSON, pointer: str) -> JSON:
    """What a JSON pointer leads to; raises if it leads nowhere."""
    for step in pointer.split("/")[1:]:
        key = step.replace("~1", "/").replace("~0", "~")
        value = value[int(key)] if isinstance(value, list) else value[key]
    return value


@given(st.text(alphabet='{}[],:"\\1ae ', max_size=30) | st.binary(max_size=20))
def test_any_text_is_validated_without_a_traceback(source: str | bytes) -> None:
    validated = parse(source)
    assert validated.workflow is None
    assert validated.errors


def test_of_many_warnings_the_first_thousand_are_reported() -> None:
    fields = {f"field-{number}": 1 for number in range(1_500)}
    source = {"name": "w", "rootAction": 1, "actions": [{"id": 1, "type": "user", "name": "a", **fields}]}
    warnings = parse_workflow(source, SYSTEM_ACTIONS).warnings
    assert len(warnings) == 1_001
    assert warnings[-1].message == "and 500 more"
