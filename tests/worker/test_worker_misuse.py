"""What is wrong with a worker shows when it is written; and that it works, when it does."""

from __future__ import annotations

import functools
import logging
import subprocess
import sys
import textwrap

import pytest

from orchy.worker import ActionContext, Worker
from orchy.worker.worker import ACTIONS_SHOWN_MAX

HANG_SECONDS = 60.0


@pytest.fixture
def worker():
    return Worker("127.0.0.1:8099")


def test_a_decorator_without_parentheses(worker):
    with pytest.raises(TypeError, match=r'write @worker.action\("query_db"\) above query_db, with parentheses'):

        @worker.action
        def query_db(data):
            return {}

    with pytest.raises(ValueError, match="at least one action"):
        worker.run()


@pytest.mark.parametrize("name", [None, 5, b"act", ["act"]])
def test_a_name_that_is_no_text(worker, name):
    with pytest.raises(TypeError, match=f"is a text, not {type(name).__name__}"):
        worker.action(name)


def nothing():
    return {}


def three(data, context, more):
    return {}


def keyword(data, *, more):
    return {}


def only_keyword(*, data):
    return {}


async def asynchronous():
    return {}


class Callable:
    def __call__(self):
        return {}


@pytest.mark.parametrize(
    "function",
    [nothing, three, keyword, only_keyword, asynchronous, Callable(), lambda: {1: 1}, functools.partial(nothing)],
)
def test_a_function_that_could_not_be_called(worker, function):
    with pytest.raises(TypeError) as caught:
        worker.action("act")(function)
    assert "the function of the action 'act' can't be called with its data" in str(caught.value)
    assert "(data, context)" in str(caught.value)


@pytest.mark.parametrize(
    "function",
    [
        lambda data: {},
        lambda data, context: {},
        lambda data=None: {},
        lambda *args: {},
        lambda data, *, more=1: {},
        lambda data, more=1, **other: {},
        functools.partial(three, more=1),
        dict,
        {}.get,
    ],
)
def test_a_function_that_can(worker, function):
    worker.action("act")(function)


def test_a_context_that_has_a_default_is_given(worker):
    def act(data, context: ActionContext = None):  # type: ignore[assignment]
        return {}

    worker.action("act")(act)
    assert worker._actions["act"].wants_context


async def test_it_says_to_whom_it_is_connected_and_for_what(start_server, run_worker, until, caplog):
    caplog.set_level(logging.INFO, "orchy.worker")
    site = await start_server()
    worker = Worker(site.address)
    worker.action("pack")(lambda data: {})
    worker.action("act")(lambda data: {})
    running = run_worker(worker)
    await until(lambda: f"connected to {site.address} for the actions act, pack" in caplog.messages)
    await running.stop()


async def test_it_does_not_list_everything(start_server, run_worker, until, caplog):
    caplog.set_level(logging.INFO, "orchy.worker")
    site = await start_server()
    worker = Worker(site.address)
    for number in range(ACTIONS_SHOWN_MAX + 5):
        worker.action(f"act{number:03}")(lambda data: {})
    running = run_worker(worker)
    await until(lambda: any(text.endswith("act009 and 5 more") for text in caplog.messages))
    await running.stop()


SCRIPT = """
    import logging, sys, threading
    from orchy.worker import Worker
    {before}
    worker = Worker("127.0.0.1:1")
    worker.action("act")(lambda data: {{}})
    threading.Timer(1.0, worker.stop).start()
    worker.run()
"""


@pytest.mark.parametrize(
    ("before", "shown"),
    [("", True), ("logging.basicConfig(level=logging.ERROR)", False), ("logging.disable()", False)],
)
def test_what_it_logs_is_seen_without_logging_being_set_up(before, shown):
    """A worker that can't reach anybody says so, once."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT.format(before=before))],
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=True,
    )
    assert ("WARNING can't work with 127.0.0.1:1: " in done.stderr) is shown
    assert done.stderr.count("can't work with") == shown
    assert ("INFO stopping" in done.stderr) is shown
