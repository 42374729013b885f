"""Suggestions for unknown names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchy.actions import SYSTEM_ACTIONS
from orchy.flow.validation.definitions import parse_workflow
from orchy.flow.validation.report import HINTS_MAX
from orchy.flow.validation.suggestions import CHARS_MAX, Suggestions

KNOWN = ["query-db", "sendEmail", "sendSms", "ship", "x" * (CHARS_MAX + 1)]


@pytest.mark.parametrize(
    ("name", "closest"),
    [
        ("query-bd", "query-db"),
        ("query_db", "query-db"),
        ("QUERY-DB", "query-db"),
        ("sendemail", "sendEmail"),
        ("sendMail", "sendEmail"),
        ("shipp", "ship"),
        ("hsip", "ship"),
        ("shpi", "ship"),
        ("send", "sendSms"),
        ("sendS", "sendSms"),
        ("query", "query-db"),
        ("sen", None),
        ("sendXYZW", None),
        ("pack", None),
        ("", None),
        ("x" * (CHARS_MAX + 2), None),
        ("x" * CHARS_MAX, None),
    ],
)
def test_the_closest_one(name, closest):
    assert Suggestions(KNOWN).closest(name) == closest


def test_nothing_is_compared_for_ever():
    known = Suggestions(["abcd", "abce", "abcf", "abcg"], compared_max=3)
    assert known.hint("abcz")
    assert known.hint("abcz") == ""


@given(st.lists(st.text(max_size=10), max_size=20), st.text(max_size=10))
def test_it_is_one_of_those_that_are_known(known, name):
    assert Suggestions(known).closest(name) in [None, *known]


def messages(*actions, known=None):
    validated = parse_workflow({"name": "w", "rootAction": 1, "actions": list(actions)}, SYSTEM_ACTIONS, known)
    return [problem.message for problem in (*validated.errors, *validated.warnings)]


def test_a_system_action():
    assert messages({"id": 1, "type": "system", "name": "swich"}) == [
        "there is no system action 'swich'; there are delay, javascript, switch, wait; did you mean 'switch'?"
    ]
    assert messages({"id": 1, "type": "system", "name": "JavaScript"})[0].endswith("; did you mean 'javascript'?")
    said = messages({"id": 1, "type": "system", "name": "query-db"}, known={"query-db"})
    assert said[0].endswith("; workers have one of that name, whose type is 'user'")
    assert messages({"id": 1, "type": "system", "name": "query-db"}) == [
        "there is no system action 'query-db'; there are delay, javascript, switch, wait"
    ]


def test_a_user_action():
    action = {"id": 1, "type": "user", "name": "query-bd"}
    assert messages(action, known={"query-db", "ship"}) == [
        "no worker has registered the action 'query-bd' yet; did you mean 'query-db'?"
    ]
    assert messages(action, known={"pack"}) == ["no worker has registered the action 'query-bd' yet"]
    (said,) = messages({**action, "name": "delay"}, known=set())
    assert said.endswith(" yet; did you mean the system action 'delay', whose type is 'system'?")
    assert messages({**action, "name": "query-db"}, known={"query-db"}) == []


def test_a_field():
    assert messages({"id": 1, "type": "user", "name": "a", "paramters": {}}) == [
        "a user action has no field 'paramters': it is ignored; did you mean 'parameters'?"
    ]
    # A field that is present already can't be what was meant.
    assert messages({"id": 1, "type": "user", "name": "a", "parameters": {}, "parameter": {}}) == [
        "a user action has no field 'parameter': it is ignored"
    ]


def test_hints_have_a_bound():
    actions = [
        {"id": n, "type": "user", "name": "a", "joyn": "any", "next": {"default": [n + 1]}} for n in range(1, 99)
    ]
    said = messages(*actions, {"id": 99, "type": "user", "name": "a"})
    assert len([text for text in said if "did you mean 'join'?" in text]) == HINTS_MAX
    assert len(said) == 98
