"""Both javascript engines, one suite: what scripts can do, and what hostile ones can't."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchy.actions.javascript.pool import open_pool
from orchy.actions.javascript.port import Evaluation, ScriptFailure

pytestmark = pytest.mark.real

ENGINES = ["quickjs", "v8"]
CONTEXT = {"input": {"a": 1}, "1": {"output": {"user": {"age": 30}}}}
TIME_LIMIT_SECONDS = 0.5


@pytest.fixture(params=ENGINES)
async def pool(request):
    async with open_pool(request.param, time_limit_seconds=TIME_LIMIT_SECONDS, memory_limit_bytes=32 * 2**20) as pool:
        yield pool


REAL = (
    "$['user']=$['1'].output.user;if($['1'].output.user.age >= 20) {$['user']['discount']=20}"
    " else{$['user']['discount']=10};"
)


@pytest.mark.parametrize(
    ("script", "output"),
    [
        (REAL, {"user": {"age": 30, "discount": 20}, "1": {"output": {"user": {"age": 30, "discount": 20}}}}),
        ("", {}),
        ("// nothing", {}),
        ("$.x = 1", {"x": 1}),
        ("$.input.a = 2", {"input": {"a": 2}}),
        ("$.input.a = 1", {}),
        ("delete $.input", {}),
        ("$ = {q: 1}", {"q": 1}),
        ("$.big = 2**53; $.zero = -0; $.half = 1.5", {"big": 2**53, "zero": 0, "half": 1.5}),
        ("$.u = undefined; $.l = [undefined]", {"l": [None]}),
        ("$.d = new Date(0)", {"d": "1970-01-01T00:00:00.000Z"}),
        ("$.s = 'ä€😀'", {"s": "ä€😀"}),
        ("Promise.resolve(7).then(x => { $.later = x })", {"later": 7}),
        ("JSON.stringify = () => '1'; Object.keys = () => []; Array.prototype.join = null; $.a = 2", {"a": 2}),
        ("function f(n) { return n < 2 ? n : f(n - 1) + f(n - 2) }\n$.fib = f(15)", {"fib": 610}),
    ],
)
async def test_what_scripts_do(pool, script, output):
    assert await pool.evaluate(script, CONTEXT) == Evaluation(output)


@pytest.mark.parametrize(
    ("script", "kind", "words"),
    [
        ("for(;;);", "time", "more than 0.5 s"),
        ("function f() { Promise.resolve().then(f) }\nf()", "time", "more than 0.5 s"),
        ("Object.defineProperty($, 'g', {get() { for(;;); }, enumerable: true})", "time", "more than 0.5 s"),
        ("let s = []; for(;;) s.push('a'.repeat(1000) + s.length)", ("memory", "time"), ""),
        ("let s = []; for(;;) s.push(s.length)", ("memory", "time"), ""),
        ("let s = []; for(;;) s.push(new Uint8Array(1e7).fill(1))", ("memory", "time", "throw"), ""),
        ("function f() { return f() + 1 }\nf()", "memory", "Maximum call stack size exceeded"),
        ("$.a = 'x'.repeat(2e7)", ("size", "memory"), ""),
        ("$.a = {}; $.a.a = $.a", "value", "circular"),
        ("$.a = function() {}", "value", "a function"),
        ("$.a = NaN", "value", "NaN"),
        ("$.a = [1, {b: 1 / 0}]", "value", "Infinity"),
        ("$.a = 10n", "value", "BigInt"),
        ("$.a = Symbol()", "value", "symbol"),
        ("$ = 5", "value", "object"),
        ("$.s = '\\ud800'", "value", ""),
        ("var x = 1;\nvar y = (;", "syntax", "(line 2)"),
        ("\nthrow new Error('boo')", "throw", "Error: boo (line 2)"),
        ("throw 'just text'", "throw", "just text"),
        ("throw null", "throw", "null"),
        ("throw {a: 1}", "throw", "[object Object]"),
        ("\n\nnowhere.x", "throw", "nowhere is not defined (line 3)"),
        ("require('fs')", "throw", "require is not defined"),
        ("fetch('http://127.0.0.1')", "throw", "fetch is not defined"),
    ],
)
async def test_what_hostile_and_broken_scripts_get(pool, script, kind, words):
    answer = await pool.evaluate(script, CONTEXT)
    assert isinstance(answer, ScriptFailure)
    assert answer.kind in ((kind,) if isinstance(kind, str) else kind), answer
    assert words.lower() in answer.message.lower()
    assert await pool.evaluate("$.x = 1", CONTEXT) == Evaluation({"x": 1})


async def test_a_catastrophic_expression_ends(pool):
    answer = await pool.evaluate("/(a+)+$/.test('a'.repeat(40) + 'b')", CONTEXT)
    assert isinstance(answer, ScriptFailure)
    assert answer.kind == "time"


async def test_nothing_of_one_script_is_seen_by_the_next(pool):
    await pool.evaluate("Object.prototype.x = 1; Array.prototype.push = null; leak = 5; globalThis.y = 1", CONTEXT)
    script = "$.seen = [typeof ({}).x, typeof [].push, typeof leak, typeof y]"
    answer = await pool.evaluate(script, CONTEXT)
    assert answer == Evaluation({"seen": ["undefined", "function", "undefined", "undefined"]})


async def test_other_scripts_go_on_beside_a_hostile_one(pool):
    answers = []

    async def hostile():
        answers.append(await pool.evaluate("for(;;);", CONTEXT))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hostile)
        await trio.sleep(0.05)
        for _ in range(5):
            assert await pool.evaluate("$.x = 1", CONTEXT) == Evaluation({"x": 1})
        assert answers == []
    assert answers[0].kind == "time"


async def test_a_script_that_is_not_waited_for_any_more_leaves_a_pool_that_works(pool):
    with trio.move_on_after(0.05):
        await pool.evaluate("for(;;);", CONTEXT)
    assert await pool.evaluate("$.x = 1", CONTEXT) == Evaluation({"x": 1})


async def test_a_large_context_and_result(pool):
    text = "x" * 2_000_000
    answer = await pool.evaluate("$.copy = $.input", {"input": text})
    assert answer == Evaluation({"copy": text})


# Numbers are doubles there: whole ones beyond 2^53 come back as the shortest digits that mean the same double.
_NUMBERS = st.integers(-(2**53), 2**53) | st.floats(-(2.0**53), 2.0**53)
_JSON = st.recursive(
    st.none() | st.booleans() | _NUMBERS | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@pytest.mark.parametrize("engine", ENGINES)
def test_json_values_come_back_as_they_were(engine):
    values = []

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(_JSON)
    def collect(value):
        values.append(value)

    collect()

    async def check():
        async with open_pool(engine) as pool:
            for value in values:
                assert await pool.evaluate("$.copy = $.value", {"value": value}) == Evaluation({"copy": value})

    trio.run(check)


PARENT = """
import sys, trio
from orchy.actions.javascript.pool import open_pool

async def main():
    async with open_pool(sys.argv[1], workers=2) as pool:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pool.evaluate, "for(;;);", {})
            nursery.start_soon(pool.evaluate, "$.x = 1", {})
            await trio.sleep(0.5)
            print("busy", flush=True)
            await trio.sleep(60)

trio.run(main)
"""


def children_of(pid):
    """The child processes of a process."""
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(child) for child in file.read().split()]


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("engine", ENGINES)
def test_workers_end_with_their_parent_also_when_it_is_killed(engine, wait_for):
    with subprocess.Popen([sys.executable, "-c", PARENT, engine], stdout=subprocess.PIPE) as parent:
        assert parent.stdout.readline() == b"busy\n"
        workers = []
        for task in os.listdir(f"/proc/{parent.pid}/task"):
            with open(f"/proc/{parent.pid}/task/{task}/children") as file:
                workers += [int(child) for child in file.read().split()]
        assert workers
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
        began = time.monotonic()
        wait_for(lambda: not any(map(alive, workers)), 20)
        assert time.monotonic() - began < 20
