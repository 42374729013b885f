"""Definitions of user actions, as workers and operators send them."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchy.errors import InvalidInput, Problem
from orchy.flow.definition import JSON, ActionDefinition, RetryPolicy
from orchy.flow.validation.definitions import parse_action_definition


def test_a_name_is_enough() -> None:
    assert parse_action_definition({"name": "a"}) == ActionDefinition("a", 1, 0, RetryPolicy.FIXED, 0)


@pytest.mark.parametrize("policy", ["BACKOFF", "backoff", "BackOff"])
def test_all_fields_are_read(policy: str) -> None:
    source = {"name": "a", "retry_count": 3, "retry_after_seconds": 0.5, "retry_policy": policy, "timeout_seconds": 60}
    expected = ActionDefinition("a", 3, 0.5, RetryPolicy.BACKOFF, 60)
    assert parse_action_definition(source) == expected
    assert parse_action_definition(json.dumps(source)) == expected
    assert parse_action_definition(json.dumps(source).encode()) == expected


def test_its_json_is_read_again_and_has_the_fields_in_their_order() -> None:
    definition = ActionDefinition("a", 3, 0.5, RetryPolicy.BACKOFF, 60)
    text = msgspec.json.encode(definition)
    assert text == (
        b'{"name":"a","retry_count":3,"retry_after_seconds":0.5,"retry_policy":"BACKOFF","timeout_seconds":60}'
    )
    assert parse_action_definition(text) == definition


def test_zero_is_not_absent() -> None:
    made = parse_action_definition({"name": "a", "retry_count": 0, "retry_after_seconds": 0, "timeout_seconds": 0})
    assert made == ActionDefinition("a", 0, 0, RetryPolicy.FIXED, 0)


@pytest.mark.parametrize(
    ("source", "pointer", "message"),
    [
        ({}, "", "an action definition needs the field 'name'"),
        ({"name": ""}, "/name", "the name must not be empty"),
        ({"name": 1}, "/name", "name must be a text, not a whole number"),
        ({"name": "a", "retry_count": -1}, "/retry_count", "retry_count must be from 0 to 10,000, not -1"),
        ({"name": "a", "retry_count": 10_001}, "/retry_count", "retry_count must be from 0 to 10,000, not 10001"),
        ({"name": "a", "retry_count": 1.5}, "/retry_count", "retry_count must be a whole number, not the number 1.5"),
        ({"name": "a", "retry_count": True}, "/retry_count", "retry_count must be a whole number, not a boolean"),
        (
            {"name": "a", "retry_after_seconds": -0.1},
            "/retry_after_seconds",
            "retry_after_seconds must be from 0 to 31,536,000, not -0.1",
        ),
        ({"name": "a", "timeout_seconds": "9"}, "/timeout_seconds", "timeout_seconds must be a number, not a text"),
        ({"name": "a", "timeout_seconds": float("nan")}, "/timeout_seconds", "nan is not a JSON value"),
        ({"name": "a", "timeout_seconds": float("inf")}, "/timeout_seconds", "inf is not a JSON value"),
        (
            {"name": "a", "timeout_seconds": 1e300},
            "/timeout_seconds",
            "timeout_seconds must be from 0 to 31,536,000, not 1e+300",
        ),
        (
            {"name": "a", "retry_policy": "LINEAR"},
            "/retry_policy",
            "retry_policy must be 'FIXED' or 'BACKOFF', not 'LINEAR'",
        ),
        (
            {"name": "a", "retryCount": 3},
            "/retryCount",
            "an action definition has no field 'retryCount'; did you mean 'retry_count'?",
        ),
    ],
)
def test_each_problem_is_reported(source: dict[str, JSON], pointer: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=r"has 1 problem$") as raised:
        parse_action_definition(source)
    (problem,) = raised.value.problems
    assert (problem.pointer, problem.message) == (pointer, message)


def test_all_problems_are_reported_at_once_with_lines_and_columns() -> None:
    text = '{"name": "",\n "retry_count": -1,\n "x": 1}'
    with pytest.raises(InvalidInput, match="the action definition has 3 problems") as raised:
        parse_action_definition(text)
    assert [(p.pointer, p.line, p.column) for p in raised.value.problems] == [
        ("/name", 1, 10),
        ("/retry_count", 2, 17),
        ("/x", 3, 2),
    ]


@pytest.mark.parametrize("text", ["[]", "", "{", b"\xff", "null"])
def test_what_is_no_object_is_refused(text: str | bytes) -> None:
    with pytest.raises(InvalidInput) as raised:
        parse_action_definition(text)
    assert len(raised.value.problems) == 1


@given(
    st.dictionaries(
        st.sampled_from(["name", "retry_count", "retry_after_seconds", "retry_policy", "timeout_seconds", "x"]),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.lists(st.integers()),
    )
)
def test_any_object_is_a_definition_or_invalid_input(source: dict[str, JSON]) -> None:
    problems: tuple[Problem, ...] = ()
    try:
        made = parse_action_definition(source)
    except InvalidInput as error:
        problems = error.problems
        made = ActionDefinition("refused")
    assert bool(problems) == (made.name == "refused")
    assert 0 <= made.retry_count <= 10_000
    assert made.retry_after_seconds >= 0
    assert made.timeout_seconds >= 0
