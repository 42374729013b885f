"""Scripts are parsed without being run: both engines report a syntax error with its line and column."""

from __future__ import annotations

import pytest
import trio

from orchy.actions.javascript.pool import open_pool
from orchy.actions.javascript.port import Evaluation, ScriptProblem
from orchy.errors import Overloaded

pytestmark = pytest.mark.real


@pytest.fixture(params=["quickjs", "v8"])
async def pool(request):
    async with open_pool(request.param, time_limit_seconds=0.5, memory_limit_bytes=32 * 2**20) as pool:
        yield pool


@pytest.mark.parametrize(
    ("script", "place"),
    [
        ("$.total = ;", (1, 11)),
        ("\n\n  $.total = ;", (3, 13)),
        ("1; }", (1, 4)),
        ("}; (function () {", (1, 1)),
        ("return 1", (1, 1)),
        ("if (", (1, 5)),
        ("let x = 1;\nif (x", (2, 6)),
        ("let x; let x;", None),
        ("let $ = 1", None),
        ("'use strict'; with ($) {}", None),
        ('"use strict"\n$.x = 010', None),
        ("/* c */ // d\n 'use strict'\n; $.x = 010", None),
        ("a \0 b", (1, 3)),
        ("'\ud800'", (1, 2)),
        ("await 1", None),
        ("import 'fs'", None),
    ],
)
async def test_what_is_no_script(pool, script, place):
    problem = await pool.check(script)
    assert problem is not None
    assert "SyntaxError" in problem.message
    if place is not None:
        assert (problem.line, problem.column) == place


@pytest.mark.parametrize(
    "script",
    [
        "$.total = 1;",
        "",
        "// nothing",
        "for (;;);",
        "throw new SyntaxError('mine')",
        "with ($) { x = 1 }",
        "$.x = 010",
        "'use strict'; $.x = 1",
        '"not use strict"; with ($) {}',
        "#! first line\n$.x = 1",
        "'a'.repeat(1e9)",
        "function f() { return 1 }",
        "let x = 1",
    ],
)
async def test_what_is_one_is_not_run(pool, script):
    assert await pool.check(script) is None


async def test_one_does_not_see_another(pool):
    for _ in range(3):
        assert await pool.check("let x = 1; class C {}") is None
    assert await pool.evaluate("let x = 1; $.x = x", {}) == Evaluation({"x": 1})


async def test_what_parses_never_fails_for_its_syntax_when_it_runs(pool):
    for script in ("'use strict'; with ($) {}", "}{", "1; } function f() {", "$.a = 1", "#!x\n$.a = 1"):
        problem, answer = await pool.check(script), await pool.evaluate(script, {})
        assert (problem is not None) == (getattr(answer, "kind", "") == "syntax"), script


async def test_a_script_that_takes_too_long_to_parse_is_refused(pool):
    problem = await pool.check("[" * 200_000)
    assert isinstance(problem, ScriptProblem)
    assert await pool.check("$.x = 1") is None


async def test_when_no_worker_is_free_that_is_said():
    async with open_pool("quickjs", 1, 20.0, wait_limit_seconds=0.1) as pool, trio.open_nursery() as nursery:
        nursery.start_soon(pool.evaluate, "for (;;);", {})
        await trio.sleep(0.3)
        with pytest.raises(Overloaded):
            await pool.check("$.x = 1")
        nursery.cancel_scope.cancel()
