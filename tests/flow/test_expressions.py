"""Templates: where tokens are recognized, what they resolve to, and which problems are reported."""

from __future__ import annotations

import copy
import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchy.flow.definition import JSON
from orchy.flow.execution import Finished
from orchy.flow.expressions.templates import (
    ExpressionProblem,
    FlowContext,
    as_text,
    compile_template,
    expression_problems,
    tokens_in,
)

USER = {"name": "Ada", "age": 36.0, "tags": ["x", "y"], "admin": True, "boss": None, "share": 0.5}
CONTEXT = FlowContext({"user": USER, "a}b": 5, "items": [{"p": 1}, {"p": "2}"}]}, {1: Finished(1, {"x": 7})})


def resolve(template: JSON) -> JSON:
    value, missing = compile_template(template).resolve(CONTEXT)
    assert not missing
    return value


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("{$.input.user}", USER),
        ("{$.input.user.age}", 36.0),
        ("{$.input.user.admin}", True),
        ("{$.input.user.boss}", None),
        ("{ $.input.user }", "{ $.input.user }"),
        ("{$.input.user.tags }", ["x", "y"]),
        ("{$1.output.x}", 7),
        ("{$['input']['a}b']}", 5),
        ("{$.input['a}b']}", 5),
        ('{$.input["a}b"]}', 5),
        ("{$.input.items[?(@.p == '2}')].p}", ["2}"]),
        ("{$.input.items[?(@.p == '\\'}')].p}", []),
    ],
)
def test_a_string_that_is_one_token_takes_the_value_with_its_type(template: str, value: JSON) -> None:
    found = resolve(template)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("", ""),
        ("no token", "no token"),
        ("Hi {$.input.user.name}!", "Hi Ada!"),
        ("{$.input.user.name}{$.1.output.x}", "Ada7"),
        ("{$.input.user.age} years", "36 years"),
        ("{$.input.user.share} of it", "0.5 of it"),
        ("is {$.input.user.admin}", "is true"),
        ("boss: {$.input.user.boss}.", "boss: ."),
        ("{$.input.user.tags}!", '["x","y"]!'),
        ("it's {$.input.user.name}'s [x] (y)", "it's Ada's [x] (y)"),
        ("{{$.input.user.name}", "{$.input.user.name}"),
        ("{{{$", "{{$"),
        ("{{${$.1.output.x}", "{$7"),
        ("{{$}} and {$.1.output.x}}", "{$}} and 7}"),
        ("costs $5 {or} {} }", "costs $5 {or} {} }"),
    ],
)
def test_in_a_longer_string_values_are_inserted_as_text(template: str, text: str) -> None:
    assert resolve(template) == text


def test_tokens_are_seen_at_any_depth_and_keys_are_left_alone() -> None:
    template = {
        "{$.k}": [{"deep": ["{$.1.output.x}", 5, None, "{{$"]}],
        "text": "x={$.1.output.x}",
        "plain": {"a": ["{{$"]},
    }
    assert resolve(template) == {"{$.k}": [{"deep": [7, 5, None, "{$"]}], "text": "x=7", "plain": {"a": ["{$"]}}


def test_paths_that_find_nothing_give_null_and_are_reported_as_they_were_written() -> None:
    value, missing = compile_template(
        {"a": "{$.nope}", "b": "[{$1.output.y}]", "c": ["{$.input.no[*]}"], "d": "{$.input.user.boss}"}
    ).resolve(CONTEXT)
    assert value == {"a": None, "b": "[]", "c": [[]], "d": None}
    assert missing == ("{$.nope}", "{$1.output.y}", "{$.input.no[*]}")


@pytest.mark.parametrize("template", [5, None, True, 1.5, [], {}, {"a": [1, "x"]}])
def test_what_has_no_token_is_constant(template: JSON) -> None:
    compiled = compile_template(template)
    assert compiled.constant
    assert compiled.resolve(CONTEXT) == (template, ())


def test_what_has_a_token_is_not_constant() -> None:
    assert not any(
        compile_template(t).constant for t in ("{$.input}", "a {$.input}", ["{$.input}"], {"a": "{$.input}"})
    )


@pytest.mark.parametrize(
    ("template", "where", "why"),
    [
        ("{$.input", (), "no closing brace"),
        ("{$", (), "no closing brace"),
        ("{$}", (), "names nothing"),
        ("{$.}", (), "names nothing"),
        ("{$x}", (), "neither"),
        ({"a": [1, "fine", "{$.input[}"]}, ("a", 2), "no closing brace"),
        ([{"b": "{$..}"}], (0, "b"), "not a JSONPath"),
        ("{$." + "a" * 5000 + "}", (), r"aaa\.\.\.'"),
    ],
)
def test_what_does_not_parse_is_an_error_with_its_place(template: JSON, where: tuple[str | int, ...], why: str) -> None:
    with pytest.raises(ExpressionProblem, match=why) as raised:
        compile_template(template)
    assert raised.value.where == where


def test_all_problems_are_found_not_only_the_first() -> None:
    value = {"a": "{$} {$.input} {$x} {$.", "b": ["{$.1}", 5, {"c": "{$y}"}]}
    assert [problem.where for problem in expression_problems(value)] == [("a",), ("a",), ("a",), ("b", 2, "c")]
    assert [(token.text, where) for token, where in tokens_in(value)] == [("{$.input}", ("a",)), ("{$.1}", ("b", 0))]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("as it is", "as it is"),
        (None, ""),
        (True, "true"),
        (False, "false"),
        (200, "200"),
        (200.0, "200"),
        (-0.0, "0"),
        (2.5, "2.5"),
        (10**30, "1" + "0" * 30),
        (1e20, "100000000000000000000"),
        (1e21, "1e+21"),
        (1e300, "1e+300"),
        (-1.5e300, "-1.5e+300"),
        (1e-7, "1e-7"),
        (1.25e-7, "1.25e-7"),
        (0.000001, "0.000001"),
        (0.00001234, "0.00001234"),
        (123.456, "123.456"),
        (-0.5, "-0.5"),
        (5e-324, "5e-324"),
        ([1, {"a": "ü"}], '[1,{"a":"ü"}]'),
        ({}, "{}"),
    ],
)
def test_the_text_of_a_value(value: JSON, text: str) -> None:
    assert as_text(value) == text


def test_the_context_shows_the_input_and_what_is_finished() -> None:
    finished = {1: Finished(1, "one")}
    context = FlowContext(None, finished)
    assert context.has("input")
    assert context.get("input") is None
    assert context.has("1")
    assert context.get("1") == {"output": "one"}
    assert not context.has("2")
    assert context.get("2") is None
    assert not any(context.has(key) for key in ("", "0", "-1", "01", " 1", "1_0", "output", "1" * 5000))
    finished[2] = Finished(1, None)
    assert context.get("2") == {"output": None}
    assert context.as_json() == {"input": None, "1": {"output": "one"}, "2": {"output": None}}


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.sampled_from(["{$.input}", "x{$.1.output}", "{{$", "{$", "{$.nope[*]}", "{$.input + 1}"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=15,
)


@given(json_values, json_values)
def test_any_value_compiles_exactly_if_it_has_no_problem_and_then_resolves(template: JSON, document: JSON) -> None:
    before = copy.deepcopy((template, document))
    problems = list(expression_problems(template))
    if problems:
        with pytest.raises(ExpressionProblem) as raised:
            compile_template(template)
        assert raised.value.where == problems[0].where
        return
    compiled = compile_template(template)
    value, _ = compiled.resolve(FlowContext(document, {1: Finished(1, document)}))
    json.dumps(value)
    assert (template, document) == before


@given(st.text())
def test_a_text_without_a_token_stays_as_it_is_and_escaping_makes_any_text_one(text: str) -> None:
    if "{$" not in text:
        assert compile_template(text).resolve(CONTEXT) == (text, ())
    if "{{" not in text:
        assert compile_template(text.replace("{$", "{{$")).resolve(CONTEXT) == (text, ())


def test_the_flow_package_and_the_actions_need_neither_network_nor_store_libraries() -> None:
    script = """
import sys
for name in ("trio", "redis", "hiredis", "quart", "quart_trio", "purerpc", "hypercorn", "quickjs", "py_mini_racer"):
    sys.modules[name] = None
import orchy.flow.validation, orchy.flow.graph, orchy.flow.expressions, orchy.flow.machine, orchy.actions
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
