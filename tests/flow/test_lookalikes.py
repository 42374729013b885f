"""Text that looks like an expression: every common notation is warned of, and what is meant literally is not."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchy.actions import SYSTEM_ACTIONS
from orchy.flow.expressions import lookalikes
from orchy.flow.expressions.lookalikes import lookalikes_in
from orchy.flow.expressions.templates import FlowContext, compile_template, expression_problems, literals_of
from orchy.flow.validation.definitions import parse_workflow


def meant(text: str) -> tuple[str, str] | None:
    found = [(one.text, one.meant) for one, _ in lookalikes_in(text)]
    assert len(found) <= 1
    return found[0] if found else None


@pytest.mark.parametrize(
    ("text", "shown", "token"),
    [
        ("${input.userId}", "${input.userId}", "{$.input.userId}"),
        ("Hi ${input.name}!", "${input.name}", "{$.input.name}"),
        ("${ input.name }", "${ input.name }", "{$.input.name}"),
        ("${name}", "${name}", "{$.input.name}"),
        ("${1.output.x}", "${1.output.x}", "{$.1.output.x}"),
        ("${a + b}", "${a + b}", "{$.input.NAME}"),
        ("{{input.userId}}", "{{input.userId}}", "{$.input.userId}"),
        ("{{ $.input.userId }}", "{{ $.input.userId }}", "{$.input.userId}"),
        ("{{$.input.userId}}", "{{$.input.userId}}", "{$.input.userId}"),
        ("Hi {{$1.output.name}}.", "{{$1.output.name}}", "{$.1.output.name}"),
        ("{{{userId}}}", "{{userId}}", "{$.input.userId}"),
        ("$.input.userId", "$.input.userId", "{$.input.userId}"),
        (" $.input.userId ", "$.input.userId", "{$.input.userId}"),
        ("$.items[0].price", "$.items[0].price", "{$.input.items[0].price}"),
        ("$['input']['first name']", "$['input']['first name']", "{$.input.NAME}"),
        ("$['input']", "$['input']", "{$['input']}"),
        ("$1.output.x", "$1.output.x", "{$.1.output.x}"),
        ("$input.x", "$input.x", "{$.input.x}"),
        ("of $.1.output.x and", "$.1.output.x", "{$.1.output.x}"),
        ("{$.input.a} and $.input.b", "$.input.b", "{$.input.b}"),
        ("$.input.b and ${input.c}", "$.input.b", "{$.input.b}"),
        ("${input.c} and $.input.b", "${input.c}", "{$.input.c}"),
    ],
)
def test_what_looks_like_an_expression(text, shown, token):
    assert meant(text) == (shown, token)
    assert not list(expression_problems(token))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "plain",
        "{$.input.userId}",
        "Hi {$.input.name}, {$1.output.x}",
        "costs ${$.input.price}",
        "write {{$.input.x} for a token",
        "$5 or $.50",
        "$.50",
        "$",
        "US$ input",
        "a{b}c {} }} {",
        '{"a": {"b": 1}}',
        "the $ sign. input",
        "${}",
        "{{}}",
        "US$.input.x",
        "$inputs.x",
    ],
)
def test_what_is_meant_literally(text):
    assert meant(text) is None


def test_they_are_found_at_any_depth():
    value = {"a": ["x", {"b": "${input.x}"}], "c": "$.input.y", "d": 5, "e": None}
    assert {where: one.meant for one, where in lookalikes_in(value)} == {
        ("a", 1, "b"): "{$.input.x}",
        ("c",): "{$.input.y}",
    }


def test_a_long_one_is_shortened_in_the_message():
    (found,) = [str(one) for one, _ in lookalikes_in("${" + "x" * 150 + "}")]
    assert len(found) < 350
    assert "..." in found


@given(st.text("${}.inputx1[]' ", max_size=60))
def test_any_text_has_at_most_one_and_always_the_same(text):
    assert meant(text) == meant(text)


@given(st.text("${}.ax ", max_size=40))
def test_what_is_literal_is_what_a_template_leaves(text):
    if not list(expression_problems(text)) and compile_template(text).constant:
        value, _ = compile_template(text).resolve(FlowContext({}, {}))
        assert value == literals_of(text)


# What of a pattern is a literal, and a repeat without an upper bound.
ESCAPE_OR_CLASS = re.compile(r"\\.|\[\^?(?:\\.|[^\]\\])+\]", re.DOTALL)
UNBOUNDED = re.compile(r"[*+]|\{\d*,\}")


@pytest.mark.parametrize("pattern", [*lookalikes._PATTERNS, lookalikes._ESCAPED, lookalikes._BARE])
def test_a_search_is_linear_in_the_text(pattern):
    """Every repeat has an upper bound, and so has the work at each position where a match may begin."""
    assert not UNBOUNDED.search(ESCAPE_OR_CLASS.sub("", pattern.pattern))


@pytest.mark.parametrize("piece", ["${", "{{", "$[", "$.a[", "}}", "${a"])
def test_a_long_text_of_beginnings_has_no_lookalike(piece):
    assert meant(piece * (1_000_000 // len(piece))) is None


def test_they_are_warnings_with_their_places():
    text = json.dumps(
        {
            "name": "w",
            "rootAction": 1,
            "actions": [
                {
                    "id": 1,
                    "type": "user",
                    "name": "a",
                    "parameters": {"to": ["${input.userId}"], "ok": "{$.input.x}"},
                    "next": {"default": [2]},
                },
                {"id": 2, "type": "system", "name": "switch", "expression": "{{input.kind}}", "next": {"default": [3]}},
                {"id": 3, "type": "system", "name": "javascript", "expression": "$.x = `${$.input.y}`"},
            ],
        },
        indent=1,
    )
    validated = parse_workflow(text, SYSTEM_ACTIONS)
    assert validated.workflow is not None
    for problem, pointer, line in zip(
        validated.warnings, ["/actions/0/parameters/to/0", "/actions/1/expression"], ["${input", "{{input"], strict=True
    ):
        assert problem.pointer == pointer
        assert problem.line is not None
        assert problem.column is not None
        assert text.splitlines()[problem.line - 1][problem.column :].startswith(line)
        assert "is taken literally; write {$.input." in problem.message
