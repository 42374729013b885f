"""Scripts that try to take all time or all memory get neither, and don't affect others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from orchy.actions.javascript.pool import open_pool
from orchy.actions.javascript.port import Evaluation, ScriptFailure

pytestmark = pytest.mark.real

#: Long for a harmless script, even on a busy machine, and short for a test.
TIME_LIMIT_SECONDS = 0.5
MEMORY_LIMIT_BYTES = 32 * 2**20
#: Nothing may make a worker grow beyond this: engine, twice the limit and what V8 needs itself.
PEAK_BYTES_MAX = 512 * 2**20

HOSTILE = {
    "endless loop": ("for (;;);", {"time"}),
    "endless loop that catches": ("for (;;) { try { for (;;); } catch {} finally { continue } }", {"time"}),
    "endless jobs": ("function f() { Promise.resolve().then(f) } f()", {"time"}),
    "endless async": ("(async () => { for (;;) await 1 })()", {"time"}),
    "a job that does not end": ("Promise.resolve().then(() => { for (;;); })", {"time"}),
    "endless generator": ("[...(function* () { for (;;) yield })()]", {"time", "memory", "throw"}),
    "bad expression": ("/^(a+)+$/.test('a'.repeat(40) + 'b')", {"time"}),
    "other bad expression": ("/(x+x+)+y/.test('x'.repeat(60))", {"time"}),
    "long native call": ("'a'.repeat(3e7).indexOf('a'.repeat(1.5e7) + 'b'); for (;;);", {"time", "memory"}),
    "one long text": ("let s = 'x'; for (;;) s += s", {"memory", "throw"}),
    "many texts": ("const a = []; for (;;) a.push('x'.repeat(1e5) + a.length)", {"memory"}),
    "many objects": ("const a = []; for (;;) a.push({})", {"memory"}),
    "many objects in a function": ("(() => { const a = []; for (;;) a.push({}) })()", {"memory"}),
    "one long array": ("const a = []; for (;;) a.push(1.5)", {"memory", "throw"}),
    "typed arrays": ("const a = []; for (;;) a.push(new Uint8Array(1e7).fill(1))", {"memory"}),
    "one typed array": ("new Uint8Array(1e9).fill(1)", {"memory", "throw"}),
    "memory that catches": (
        "const a = []; for (;;) { try { for (;;) a.push('x'.repeat(1e6) + a.length) } catch {} }",
        {"memory", "time"},
    ),
    "typed arrays that catches": (
        "const a = []; for (;;) { try { for (;;) a.push(new Uint8Array(1e6).fill(1)) } catch {} }",
        {"memory", "time"},
    ),
    "recursion": ("function f() { return f() + 1 }\nf()", {"memory"}),
    "recursion of what is built in": ("const a = []; a[0] = a; const f = () => [1].map(f); f()", {"memory"}),
    "deep result": ("let x = 1; for (let i = 0; i < 1e5; i++) x = [x]; $.x = x", {"memory", "value"}),
    "deep parse": ("JSON.parse('['.repeat(1e6))", {"memory", "syntax", "throw"}),
    "deep source": ("eval('['.repeat(1e6))", {"memory", "syntax", "throw"}),
    "huge result": ("$.x = 'x'.repeat(12e6)", {"size", "memory"}),
    "wide result": ("$.x = Array(1e5).fill({a: 'x'.repeat(200)})", {"size", "memory", "time"}),
    "huge number": ("let x = 3n; for (;;) x = x * x", {"time", "memory", "throw"}),
    "huge message": ("throw 'x'.repeat(12e6)", {"throw", "memory"}),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_script_fails_and_affects_no_other(
    engine: str, name: str, my_workers: Callable[[], list[int]]
) -> None:
    script, kinds = HOSTILE[name]
    async with open_pool(engine, 2, TIME_LIMIT_SECONDS, MEMORY_LIMIT_BYTES) as pool:
        answers: list[Evaluation | ScriptFailure] = []
        peaks: list[int] = []

        async def be_hostile() -> None:
            answers.append(await pool.evaluate(script, {}))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(be_hostile)
            beside = 0
            while not answers:
                # With another context each time, as no script may get another's.
                assert await pool.evaluate("$.y = $.x + 1", {"x": beside}) == Evaluation({"y": beside + 1})
                beside += 1
                peaks += [peak_bytes(pid) for pid in my_workers()]
        answer = answers[0]
        assert isinstance(answer, ScriptFailure), name
        # On a slow machine the time may be over before the memory is.
        assert answer.kind in (kinds | {"time"} if "memory" in kinds else kinds), answer
        assert "\n" not in answer.message
        assert len(answer.message) < 1100
        assert max(peaks) < PEAK_BYTES_MAX
        for number in range(3):
            assert await pool.evaluate("$.y = $.x", {"x": number}) == Evaluation({"y": number})


def peak_bytes(pid: int) -> int:
    """The most memory that a process ever had, 0 if it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM")), 0)


@pytest.mark.parametrize("name", [name for name, (_, kinds) in HOSTILE.items() if kinds == {"memory"}])
async def test_memory_has_an_end_also_when_there_is_time(
    engine: str, name: str, my_workers: Callable[[], list[int]]
) -> None:
    script, _ = HOSTILE[name]
    async with open_pool(engine, 1, 20.0, MEMORY_LIMIT_BYTES) as pool, trio.open_nursery() as nursery:
        peaks: list[int] = []

        async def watch() -> None:
            while True:
                peaks.extend(peak_bytes(pid) for pid in my_workers())
                await trio.sleep(0.005)

        nursery.start_soon(watch)
        answer = await pool.evaluate(script, {})
        assert isinstance(answer, ScriptFailure)
        assert answer.kind == "memory", answer
        assert max(peaks) < PEAK_BYTES_MAX
        print(f"{engine}, {name}: {max(peaks) >> 20} MB")
        nursery.cancel_scope.cancel()


async def test_many_hostile_scripts_at_once(engine: str) -> None:
    async with open_pool(engine, 2, TIME_LIMIT_SECONDS, MEMORY_LIMIT_BYTES) as pool:

        async def fails(script: str, *kinds: str) -> None:
            answer = await pool.evaluate(script, {})
            assert isinstance(answer, ScriptFailure)
            assert answer.kind in kinds, answer

        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(fails, "for (;;);", "time")
                nursery.start_soon(fails, "const a = []; for (;;) a.push({})", "memory", "time")
                nursery.start_soon(fails, "throw 1", "throw")
                nursery.start_soon(fails, "$.x = NaN", "value")
        assert await pool.evaluate("$.x = 1", {}) == Evaluation({"x": 1})
