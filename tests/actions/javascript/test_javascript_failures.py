"""The messages of failed scripts: one line, in the script's own words, with the line that failed."""

from __future__ import annotations

import pytest

from orchy.actions.javascript.pool import Pool
from orchy.actions.javascript.port import Evaluation, ScriptFailure

pytestmark = pytest.mark.real

NO_TEXT = "the script threw something that has no text"


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("throw new Error('boo')", "Error: boo (line 1)"),
        ("\n\nthrow new TypeError('boo')", "TypeError: boo (line 3)"),
        ("function f() {\n  throw new RangeError('deep')\n}\n\nf()", "RangeError: deep (line 2)"),
        ("throw new Error('two\\n lines')", "Error: two lines (line 1)"),
        ("\nmissing", "ReferenceError: missing is not defined (line 2)"),
        ("\n\nPromise.resolve().then(() => {}); nothing()", "ReferenceError: nothing is not defined (line 3)"),
        ("$ = {get x() {\n throw new Error('in a getter') }}", "Error: in a getter (line 2)"),
        ("$.x = {toJSON() {\n\n throw new Error('in toJSON') }}", "Error: in toJSON (line 3)"),
    ],
)
async def test_an_error_that_is_thrown(pool: Pool, script: str, message: str) -> None:
    assert await pool.evaluate(script, {}) == ScriptFailure(message, "throw")


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("throw 'just a text'", "just a text"),
        ("throw 'te' + 'xt'.repeat(3)", "textxtxt"),
        ("throw 42", "42"),
        ("throw null", "null"),
        ("throw undefined", "undefined"),
        ("throw {a: 1}", "[object Object]"),
        ("throw {toString() { return 'own words' }}", "own words"),
        ("throw Symbol('s')", NO_TEXT),
        ("throw {toString() { throw 1 }}", NO_TEXT),
        ("throw Object.create(null)", NO_TEXT),
        ("throw ''", NO_TEXT),
        ("throw 'which JSON can not hold'", "which JSON can not hold"),
        ("throw 'circular'", "circular"),
    ],
)
async def test_anything_else_that_is_thrown(pool: Pool, script: str, message: str) -> None:
    answer = await pool.evaluate(script, {})
    # Only one of the engines knows the line.
    assert answer in (ScriptFailure(message, "throw"), ScriptFailure(f"{message} (line 1)", "throw"))


@pytest.mark.parametrize(
    ("script", "line"),
    [
        ("var = 5", 1),
        ("\n\n$.x = )", 3),
        ("$.x = (", 1),
        ("$.x = 1\n/* no end", 2),
        ("let $ = 5", 1),
        ("return 1", 1),
        ("import x from 'y'", 1),
        ("await 1", 1),
        ("$.x = 'a\0b'", 1),
        ("\n'\ud800'", 2),
    ],
)
async def test_a_syntax_error_has_its_line(pool: Pool, script: str, line: int) -> None:
    answer = await pool.evaluate(script, {})
    assert isinstance(answer, ScriptFailure)
    assert answer.kind == "syntax"
    assert answer.message.startswith("SyntaxError: ")
    assert answer.message.endswith(f" (line {line})")


async def test_a_long_message_is_cut(pool: Pool) -> None:
    answer = await pool.evaluate("throw new Error('x'.repeat(1000000))", {})
    assert isinstance(answer, ScriptFailure)
    assert answer.kind == "throw"
    assert len(answer.message) < 1100


async def test_a_script_reaches_nothing_outside(pool: Pool) -> None:
    names = ["require", "process", "fetch", "XMLHttpRequest", "console", "setTimeout", "std", "os", "print", "load"]
    names += ["WebAssembly", "Atomics", "SharedArrayBuffer", "performance", "__timer_manager", "queueMicrotask"]
    script = f"$.there = {names}.filter(name => typeof globalThis[name] !== 'undefined')"
    assert await pool.evaluate(script, {}) == Evaluation({"there": []})
    script = "import('/etc/passwd').then(() => { $.file = 'read' }, () => { $.file = 'refused' })"
    assert await pool.evaluate(script, {}) in (Evaluation({"file": "refused"}), Evaluation({}))
    assert isinstance(await pool.evaluate("require('fs')", {}), ScriptFailure)
