"""What a script's output is: the top-level keys of `$` that it added or changed, as JSON."""

from __future__ import annotations

from typing import Any

import pytest

from orchy.actions.javascript.pool import Pool, open_pool
from orchy.actions.javascript.port import Evaluation, ScriptFailure

pytestmark = pytest.mark.real

CONTEXT: dict[str, Any] = {
    "input": {"userId": 7, "tags": ["a", "b"]},
    "1": {"output": {"user": {"name": "Ann", "age": 20}}},
}

RESULTS: list[tuple[str, dict[str, Any]]] = [
    ("", {}),
    (" \n ", {}),
    ("// nothing", {}),
    ("1 + 1", {}),
    ("$.x = 1", {"x": 1}),
    ("'use strict'; $.x = 1", {"x": 1}),
    ("var x = 5; function f() { return x } $.x = f()", {"x": 5}),
    ("undeclared = 3; with ({a: 4}) { $.x = a + undeclared }", {"x": 7}),
    ("$.x = 1 // a comment at the end", {"x": 1}),
    # deep changes, and none
    ("$.input.tags.push('c')", {"input": {"userId": 7, "tags": ["a", "b", "c"]}}),
    ("$.input.tags.push('c'); $.input.tags.pop()", {}),
    ("$.input = JSON.parse(JSON.stringify($.input))", {}),
    ("$.input.userId = $.input.userId", {}),
    ("$['1'].output.user.age += 1", {"1": {"output": {"user": {"name": "Ann", "age": 21}}}}),
    # keys that go
    ("delete $.input", {}),
    ("delete $['1'].output.user", {"1": {"output": {}}}),
    # another $
    ("$ = {y: 2}", {"y": 2}),
    ("$ = {y: 2, input: $.input}", {"y": 2}),
    ("var $ = {y: 2}", {"y": 2}),
    ("function $() {} $ = {y: 2}", {"y": 2}),
    ("$ = new Proxy($, {}); $.y = 2", {"y": 2}),
    ("$ = new Map([[1, 2]])", {}),
    ("delete globalThis.$; $.y = 2", {"y": 2}),
    ("globalThis.$ = {y: 2}", {"y": 2}),
    ("Object.freeze($); $.y = 2", {}),
    # getters
    ("Object.defineProperty($, 'x', {get() { return {a: 1} }, enumerable: true})", {"x": {"a": 1}}),
    ("Object.defineProperty($, 'x', {value: 1, enumerable: false})", {}),
    ("$ = {n: 0, get x() { return ++this.n }}", {"n": 0, "x": 1}),
    # names that mean something
    ("$['__proto__'] = {a: 1}", {}),
    ("Object.defineProperty($, '__proto__', {value: 1, enumerable: true})", {"__proto__": 1}),
    ("$.constructor = 1; $.toString = 2; $.length = 3; $.hasOwnProperty = 4",
     {"constructor": 1, "toString": 2, "length": 3, "hasOwnProperty": 4}),
    ("$[Symbol('s')] = 1", {}),
    ("$[''] = 1", {"": 1}),
    # as JSON writes it
    ("$.x = undefined", {}),
    ("$.input = undefined", {}),
    ("$.x = [undefined, , 1]; $.y = {a: undefined}", {"x": [None, None, 1], "y": {}}),
    ("$.x = new Date(0); $.y = new Date(NaN)", {"x": "1970-01-01T00:00:00.000Z", "y": None}),
    ("$.x = new Map([[1, 2]]); $.y = /a/; $.z = new Error('e')", {"x": {}, "y": {}, "z": {}}),
    ("$.x = {a: 1, toJSON() { return 'mine' }}", {"x": "mine"}),
    ("$.x = new Uint8Array([1, 2])", {"x": {"0": 1, "1": 2}}),
    ("$.x = [new String('a'), new Number(1), new Boolean(false)]", {"x": ["a", 1, False]}),
    ("BigInt.prototype.toJSON = function () { return String(this) }; $.x = 12345678901234567890n",
     {"x": "12345678901234567890"}),
    # numbers
    ("$.x = [1.0, 0.5, -0, 1e3, 1e21, 5e-324]", {"x": [1, 0.5, 0, 1000, 1e21, 5e-324]}),
    ("$.x = Number.MAX_SAFE_INTEGER; $.y = 2 ** 53", {"x": 2**53 - 1, "y": 2**53}),
    ("$.x = 1.7976931348623157e308", {"x": 1.7976931348623157e308}),
    # texts
    ("$.x = '\\u0000\\n\"\\\\\\u2028é\\u{1f600}'", {"x": '\0\n"\\\u2028é\U0001f600'}),
    ("$.x = '😀'.length; $.y = '😀é'", {"x": 2, "y": "😀é"}),
    ("$.x = '\\\\ud800'", {"x": "\\ud800"}),
    # jobs run before the result is taken
    ("Promise.resolve(1).then(v => { $.x = v }).then(() => { $.y = 2 })", {"x": 1, "y": 2}),
    ("(async () => { $.x = await 1; for (let i = 0; i < 100; i++) await i; $.y = 2 })()", {"x": 1, "y": 2}),
]  # fmt: skip


async def test_results_are_the_keys_that_changed(pool: Pool) -> None:
    wrong = []
    for script, expected in RESULTS:
        answer = await pool.evaluate(script, CONTEXT)
        if answer != Evaluation(expected) or repr(answer) != repr(Evaluation(expected)):  # 1 is not 1.0 here
            wrong.append((script, answer, expected))
    assert wrong == []


async def test_the_script_of_the_notification_workflow(pool: Pool) -> None:
    script = (
        "$['user']=$['1'].output.user;if($['1'].output.user.age >= 20) {$['user']['discount']=20}"
        " else{$['user']['discount']=10};"
    )
    user = {"name": "Ann", "age": 20, "discount": 20}
    # It is the same object: the user of action 1 has the discount now, too.
    assert await pool.evaluate(script, CONTEXT) == Evaluation({"1": {"output": {"user": user}}, "user": user})
    assert CONTEXT["1"]["output"]["user"] == {"name": "Ann", "age": 20}


async def test_an_integer_of_the_context_that_no_double_holds_is_not_output_unless_it_is_used(pool: Pool) -> None:
    big = 2**53 + 1
    assert await pool.evaluate("$.y = 1", {"x": big}) == Evaluation({"y": 1})
    assert await pool.evaluate("$.y = $.x", {"x": big}) == Evaluation({"y": 2**53})


async def test_a_context_of_some_megabytes(pool: Pool) -> None:
    context: dict[str, Any] = {"input": [{"id": n, "name": f"name {n}", "price": n / 2} for n in range(60_000)]}
    script = "$.sum = $.input.reduce((sum, item) => sum + item.price, 0); $.first = $.input.slice(0, 20000)"
    expected = {"sum": 59_999 * 60_000 / 4, "first": context["input"][:20_000]}
    assert await pool.evaluate(script, context) == Evaluation(expected)


async def test_a_context_of_many_small_objects_does_not_count_as_the_script_s_memory(engine: str) -> None:
    async with open_pool(engine, 1, 10.0, 8 * 2**20) as pool:
        assert await pool.evaluate("$.n = $.input.length", {"input": [{}] * 300_000}) == Evaluation({"n": 300_000})


@pytest.mark.parametrize(
    ("script", "what"),
    [
        ("$.x = NaN", 'NaN at "x"'),
        ("$.x = {a: [1, -Infinity]}", '-Infinity at "x"'),
        ("$.x = () => 1", 'a function at "x"'),
        ("$.x = {f() {}}", 'a function at "x"'),
        ("$.x = Symbol('s')", 'a symbol at "x"'),
        ("$.x = 1n", 'a BigInt at "x"'),
        ("$.x = [1n]", 'a BigInt at "x"'),
        ("$.x = {}; $.x.y = [$.x]", 'a circular reference at "x"'),
        ("$.x = $", 'a circular reference at "x"'),
        ("$.input.f = () => 1", 'a function at "input"'),
        ("$.n = NaN", 'NaN at "n"'),
        ("$['a\"b'] = NaN", 'NaN at "a\\"b"'),
    ],
)
async def test_a_value_that_json_can_not_hold_is_named(pool: Pool, script: str, what: str) -> None:
    answer = await pool.evaluate(script, {"input": {}, "n": None})
    assert answer == ScriptFailure(f"the result has {what}, which JSON can not hold", "value")


@pytest.mark.parametrize("value", ["5", "null", "undefined", "'text'", "[1]", "() => 1", "Symbol()"])
async def test_dollar_must_stay_an_object(pool: Pool, value: str) -> None:
    assert await pool.evaluate(f"$ = {value}", CONTEXT) == ScriptFailure("$ is no object any more", "value")


async def test_half_a_surrogate_pair_is_no_text(pool: Pool) -> None:
    for script in ("$.x = '\\ud800'", "$.x = '😀'[1]", "$['\\udc00'] = 1"):
        answer = await pool.evaluate(script, CONTEXT)
        assert answer == ScriptFailure("the result has a text with half of a surrogate pair", "value")


async def test_a_result_is_nested_as_deep_as_json_is_anywhere_in_orchy_and_no_deeper(pool: Pool) -> None:
    nest = "let x = '{'; for (let i = 1; i < DEPTH; i++) x = [x]; $.x = x"
    answer = await pool.evaluate(nest.replace("DEPTH", "101"), {})
    assert isinstance(answer, Evaluation)
    answer = await pool.evaluate(nest.replace("DEPTH", "102"), {})
    assert answer == ScriptFailure("the result is nested deeper than 100", "value")
    assert await pool.evaluate("$.x = Array(200).fill('[{').concat(Array(200).fill({}))", {}) == Evaluation(
        {"x": ["[{"] * 200 + [{}] * 200}
    )


async def test_a_result_over_its_limit_is_refused(engine: str) -> None:
    async with open_pool(engine, 1, 10.0, output_limit_bytes=1000) as pool:
        assert isinstance(await pool.evaluate("$.x = 'y'.repeat(900)", {}), Evaluation)
        expected = ScriptFailure("the result has more than 1000 bytes", "size")
        assert await pool.evaluate("$.x = 'y'.repeat(2000)", {}) == expected
        assert await pool.evaluate("$.x = 'é'.repeat(600)", {}) == expected
