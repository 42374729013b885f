"""No evaluation sees anything of another, and no script can deceive the code that reads its result."""

from __future__ import annotations

import pytest

from orchy.actions.javascript.pool import Pool, open_pool
from orchy.actions.javascript.port import Evaluation, ScriptFailure

pytestmark = pytest.mark.real

CONTEXT = {"a": {"b": [1, 2]}, "text": "t"}


@pytest.mark.parametrize(
    ("dirty", "look"),
    [
        ("leaked = 1", "$.seen = typeof leaked"),
        ("var leaked = 1", "$.seen = typeof leaked"),
        ("let leaked = 1", "$.seen = typeof leaked"),
        ("globalThis.leaked = 1", "$.seen = typeof leaked"),
        ("Object.prototype.leaked = 1", "$.seen = typeof ({}).leaked"),
        ("Array.prototype.leaked = 1", "$.seen = typeof [].leaked"),
        ("String.prototype.leaked = 1", "$.seen = typeof ''.leaked"),
        ("Function.prototype.leaked = 1", "$.seen = typeof (() => 1).leaked"),
        ("Symbol.for('k').description; Math.leaked = 1", "$.seen = typeof Math.leaked"),
        ("JSON.leaked = 1", "$.seen = typeof JSON.leaked"),
        ("RegExp.prototype.leaked = 1; /(secret)/.exec('secret')", "$.seen = RegExp.$1 ? 'leaked' : 'undefined'"),
        ("$.leaked = 1", "$.seen = typeof $.leaked"),
    ],
)
async def test_a_later_evaluation_sees_nothing(engine: str, dirty: str, look: str) -> None:
    async with open_pool(engine, 1, 10.0) as pool:  # one worker: it is the same process
        assert isinstance(await pool.evaluate(dirty, {}), Evaluation)
        assert await pool.evaluate(look, {}) == Evaluation({"seen": "undefined"})


@pytest.mark.parametrize(
    "tampering",
    [
        "JSON.stringify = () => '1'; JSON.parse = () => 1; JSON = null",
        "Object.keys = () => []; Object.getOwnPropertyNames = () => []; Object = null",
        "Reflect.apply = () => '{}'; Reflect.deleteProperty = () => true; Reflect = null",
        "Array.prototype.join = () => 'x'; Array.prototype.push = null; Array.isArray = () => true",
        "Array.prototype[Symbol.iterator] = null; Function.prototype.call = null; Function.prototype.apply = null",
        "Number.isFinite = () => false; Number = null",
        "Object.prototype.toJSON = () => 'faked'",
        "Array.prototype.toJSON = () => 'faked'",
        "String.prototype.toJSON = Number.prototype.toJSON = () => 'faked'",
        "Object.prototype.value = 1; Object.prototype.get = () => 2; Object.prototype.enumerable = false",
        "Object.prototype.length = 9; Object.prototype[0] = 'zero'; Object.prototype.a = 'a'",
        "Object.defineProperty(Object.prototype, '0', {set() { throw 1 }, get() { throw 2 }})",
        "Object.defineProperty(Object.prototype, 'c', {set() { throw 1 }, get() { return 2 }}); delete $.c",
        "String.prototype.toString = () => 'x'; String = null; TypeError = null; Symbol = null",
        "try { Object.defineProperty(globalThis, '$', {get() { return {faked: 1} }}) } catch {}",
    ],
)
async def test_a_script_that_changes_the_built_in_objects_deceives_only_itself(pool: Pool, tampering: str) -> None:
    answer = await pool.evaluate(f"{tampering}; Object; $.a.b[1] = 3", CONTEXT)
    assert answer == Evaluation({"a": {"b": [1, 3]}})


async def test_a_to_json_for_all_that_can_not_be_taken_away_fails(pool: Pool) -> None:
    script = "Object.defineProperty(Object.prototype, 'toJSON', {value: () => 'faked'}); $.x = 1"
    answer = await pool.evaluate(script, CONTEXT)
    assert answer == ScriptFailure("the script gave all objects a toJSON that can not be taken away", "value")
    assert await pool.evaluate("$.x = {}", CONTEXT) == Evaluation({"x": {}})


async def test_an_array_prototype_that_breaks_the_engine_s_own_json_fails_only_this_script(pool: Pool) -> None:
    # QuickJS writes JSON with an array of its own, which has this setter, too.
    script = "Object.defineProperty(Array.prototype, '0', {set() { throw 'mine' }, get() { throw 'mine' }}); $.x = [1]"
    answer = await pool.evaluate(script, CONTEXT)
    assert answer == Evaluation({"x": [1]}) or (isinstance(answer, ScriptFailure) and answer.message == "mine")
    assert await pool.evaluate("$.x = [1]", CONTEXT) == Evaluation({"x": [1]})


async def test_an_endless_getter_or_proxy_only_costs_its_own_time(engine: str) -> None:
    async with open_pool(engine, 1, 0.3) as pool:
        for script in (
            "$ = {get x() { for (;;); }}",
            "$ = new Proxy({}, {ownKeys() { for (;;); }})",
            "$.x = {toJSON() { for (;;); }}",
            "throw {toString() { for (;;); }}",
        ):
            answer = await pool.evaluate(script, CONTEXT)
            assert answer == ScriptFailure("the script ran for more than 0.3 s", "time"), script
