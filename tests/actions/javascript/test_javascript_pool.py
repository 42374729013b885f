"""The worker processes: how many there are, when they are replaced, and that none is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trio.testing

from orchy.actions.javascript.pool import open_pool
from orchy.actions.javascript.port import Evaluation, ScriptFailure
from orchy.errors import Overloaded, StartupError

pytestmark = pytest.mark.real

#: A call that QuickJS does not stop in: only the end of the process ends it. Some hours.
UNSTOPPABLE = "'a'.repeat(3e7).indexOf('a'.repeat(1.5e7) + 'b')"
HANG_SECONDS = 60.0

Workers = Callable[[], list[int]]


async def until(condition: Callable[[], bool]) -> None:
    """Poll until it holds."""
    with trio.fail_after(HANG_SECONDS):
        while not condition():
            await trio.sleep(0.01)


async def test_one_worker_is_there_from_the_start_and_more_when_they_are_needed(
    engine: str, my_workers: Workers
) -> None:
    async with open_pool(engine, 3, 30.0) as pool:
        assert len(my_workers()) == 1
        for _ in range(3):
            await pool.evaluate("$.x = 1", {})
        assert len(my_workers()) == 1
        async with trio.open_nursery() as nursery:
            for _ in range(9):
                nursery.start_soon(pool.evaluate, "const end = Date.now() + 50; while (Date.now() < end);", {})
        assert 1 < len(my_workers()) <= 3
    assert my_workers() == []


async def test_a_script_that_its_engine_does_not_stop_is_killed_and_its_worker_replaced(my_workers: Workers) -> None:
    async with open_pool("quickjs", 1, 0.2) as pool:
        before = my_workers()
        with trio.fail_after(HANG_SECONDS):
            answer = await pool.evaluate(UNSTOPPABLE, {})
        assert answer == ScriptFailure("the script ran for more than 0.2 s", "time")
        after = my_workers()
        assert len(after) == 1
        assert after != before
        assert await pool.evaluate("$.x = 1", {}) == Evaluation({"x": 1})
        assert my_workers() == after


async def test_a_worker_that_ends_under_its_script_is_replaced(engine: str, my_workers: Workers) -> None:
    async with open_pool(engine, 1, 60.0) as pool:
        (before,) = my_workers()
        answers = []

        async def evaluate() -> None:
            answers.append(await pool.evaluate("for (;;);", {}))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(evaluate)
            await trio.testing.wait_all_tasks_blocked()
            os.kill(before, signal.SIGABRT)
        assert isinstance(answers[0], ScriptFailure)
        assert answers[0].kind == "memory"
        assert await pool.evaluate("$.x = 1", {}) == Evaluation({"x": 1})
        assert before not in my_workers()


async def test_a_worker_that_ended_while_it_was_idle_costs_no_script(engine: str, my_workers: Workers) -> None:
    async with open_pool(engine, 1, 10.0) as pool:
        (before,) = my_workers()
        os.kill(before, signal.SIGKILL)
        await until(lambda: has_ended(before))
        assert await pool.evaluate("$.x = 1", {}) == Evaluation({"x": 1})
        assert before not in my_workers()


def has_ended(pid: int) -> bool:
    """Whether a process has ended with all its threads, reaped or not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            leader_ended = file.read().rpartition(")")[2].split()[0] == "Z"
        return leader_ended and len(os.listdir(f"/proc/{pid}/task")) == 1
    except FileNotFoundError:
        return True


async def test_a_worker_is_replaced_after_so_many_scripts(engine: str, my_workers: Workers) -> None:
    async with open_pool(engine, 1, 10.0, scripts_per_worker=4) as pool:
        seen = []
        for number in range(12):
            assert await pool.evaluate("$.y = $.x", {"x": number}) == Evaluation({"y": number})
            seen += my_workers()
        assert len(seen) == 12
        assert 3 <= len(set(seen)) <= 4


async def test_a_caller_that_gives_up_leaves_no_script_running(engine: str, my_workers: Workers) -> None:
    async with open_pool(engine, 1, 60.0) as pool:
        (before,) = my_workers()
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pool.evaluate, "for (;;);", {})
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
        assert before not in my_workers()
        assert await pool.evaluate("$.x = 1", {}) == Evaluation({"x": 1})


async def test_waiting_for_a_worker_has_an_end(engine: str) -> None:
    async with open_pool(engine, 1, 60.0, wait_limit_seconds=0.1) as pool, trio.open_nursery() as nursery:
        nursery.start_soon(pool.evaluate, "for (;;);", {})
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(Overloaded, match=r"no javascript worker was free within 0\.1 s"):
            await pool.evaluate("$.x = 1", {})
        nursery.cancel_scope.cancel()


async def test_an_engine_that_is_not_there_is_a_startup_error(my_workers: Workers) -> None:
    with pytest.raises(StartupError, match=r"worker \(nothing\) did not start"):
        async with open_pool("nothing"):
            pass
    assert my_workers() == []


async def test_an_error_of_the_caller_s_passes_unchanged_and_leaves_no_process(
    engine: str, my_workers: Workers
) -> None:
    with pytest.raises(KeyError, match="mine"):
        async with open_pool(engine):
            raise KeyError("mine")
    assert my_workers() == []


async def test_a_worker_knows_none_of_the_server_s_settings(
    engine: str, my_workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORCHY_REDIS_PASSWORD", "secret")
    async with open_pool(engine):
        (pid,) = my_workers()
        assert b"ORCHY_" not in Path(f"/proc/{pid}/environ").read_bytes()


PARENT = """
import sys, trio, trio.testing
from orchy.actions.javascript.pool import open_pool

async def main():
    async with open_pool("quickjs", 2, 0.5) as pool, trio.open_nursery() as nursery:
        async with trio.open_nursery() as both:
            for _ in range(2):
                both.start_soon(pool.evaluate, "const end = Date.now() + 50; while (Date.now() < end);", {})
        nursery.start_soon(pool.evaluate, sys.argv[1], {})
        await trio.testing.wait_all_tasks_blocked()  # now it is sent, for there are two workers ready
        print("busy", flush=True)
        await trio.sleep_forever()

trio.run(main)
"""


def test_a_script_that_nothing_stops_does_not_outlive_a_parent_that_is_killed(
    worker_pids: Callable[[int], list[int]], wait_for: Callable[..., object]
) -> None:
    command = [sys.executable, "-c", PARENT, UNSTOPPABLE]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        try:
            assert parent.stdout.readline() == b"busy\n"
            workers = worker_pids(parent.pid)
            assert len(workers) == 2
        finally:
            parent.kill()
    # One is idle and reads the end of its input; the other is in a call that only the alarm ends.
    wait_for(lambda: all(map(has_ended, workers)), HANG_SECONDS)


@pytest.mark.parametrize("module", ["orchy.actions.javascript.port", "orchy.actions"])
def test_the_port_needs_no_engine_and_no_trio(module: str) -> None:
    absent = ["trio", "quickjs", "py_mini_racer", "redis", "quart", "purerpc"]
    code = f"import sys; sys.modules.update(dict.fromkeys({absent})); import {module}"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=HANG_SECONDS)


def test_a_worker_process_has_only_what_it_uses(engine: str) -> None:
    code = (
        "import runpy, sys; from importlib.util import find_spec;"
        "path = find_spec('orchy').submodule_search_locations[0] + '/actions/javascript/start.py';"
        "runpy.run_path(path)['bare_packages']();"
        f"import orchy.actions.javascript.worker, orchy.actions.javascript.{engine}_engine;"
        "unwanted = {'trio', 'attr', 'attrs', 'msgspec', 'jsonpath_ng', 'orchy.flow', 'orchy.errors'};"
        "print(sorted(unwanted & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, timeout=HANG_SECONDS, check=True)
    assert done.stdout.strip() == b"[]"
