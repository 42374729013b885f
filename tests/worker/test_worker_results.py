"""What a function answers or raises becomes the result that the server gets."""

from __future__ import annotations

import logging
import math
import subprocess
import sys
import threading

import pytest
import trio
import trio.lowlevel
import trio.testing

from orchy.rpc.generated import action_service_pb2 as pb
from orchy.rpc.grpc.values import json_of_map
from orchy.worker import ActionContext, ActionFailed, Worker


class BrokenText(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even that")


def raises(error: BaseException):
    def function(data):
        raise error

    return function


async def one_result(start_server, run_worker, until, function, data=None, **options):
    site = await start_server()
    worker = Worker(site.address, worker_id="w1")
    worker.action("act", **options)(function)
    site.script.put("act", data, flow_id="flow-9", attempt=2)
    run_worker(worker)
    await until(lambda: site.script.results)
    return site.script.results[0]


async def test_a_dict_is_a_success(start_server, run_worker, until):
    def function(data):
        return {"doubled": data["n"] * 2, "type": type(data["n"]).__name__, "list": [1, {"a": None}]}

    result = await one_result(start_server, run_worker, until, function, {"n": 21})
    assert result.status == pb.ActionResult.SUCCESS
    assert json_of_map(result.data) == {"doubled": 42, "type": "int", "list": [1, {"a": None}]}
    assert (result.workflowName, result.flowId, result.actionId, result.actionName) == ("w", "flow-9", 3, "act")
    assert (result.retryCount, result.workerId, result.error) == (2, "w1", "")


async def test_sync_functions_run_in_threads_and_async_ones_on_the_workers_own(start_server, run_worker, until):
    places = []

    def sync(data):
        places.append(threading.current_thread())

    async def on_trio(data):
        await trio.lowlevel.checkpoint()
        places.append(threading.current_thread())

    site = await start_server()
    worker = Worker(site.address)
    worker.action("sync")(sync)
    worker.action("async")(on_trio)
    site.script.put("sync")
    run_worker(worker)
    await until(lambda: len(site.script.results) == 1)
    site.script.put("async")
    await until(lambda: len(site.script.results) == 2)
    assert places[0] is not threading.current_thread()
    assert places[1] is threading.current_thread()
    assert [json_of_map(result.data) for result in site.script.results] == [{}, {}], "None is an empty answer"


@pytest.mark.parametrize(
    ("function", "error"),
    [
        (raises(ValueError("no such user")), "ValueError: no such user"),
        (raises(KeyError()), "KeyError"),
        (raises(ActionFailed("just this")), "just this"),
        (raises(SystemExit(3)), "SystemExit: 3"),
        (raises(BrokenText()), "BrokenText"),
        (lambda data: [1, 2], "the function answered list, not a dict"),
        (lambda data: {"a": {1, 2}}, "the function's data or answer can't travel: a set is not a JSON value"),
        (lambda data: {"a": {1: 2}}, "the function's data or answer can't travel: the key 1 is not a string"),
    ],
)
async def test_a_failure_carries_its_text(start_server, run_worker, until, function, error):
    result = await one_result(start_server, run_worker, until, function)
    assert result.status == pb.ActionResult.FAIL
    assert result.error == error
    assert not result.data


async def test_a_text_that_utf8_can_not_hold_still_travels(start_server, run_worker, until, caplog):
    caplog.set_level(logging.CRITICAL, "orchy.worker")  # such a text in a report is more than some reporters can take
    result = await one_result(start_server, run_worker, until, raises(ValueError("lone \ud800 surrogate")))
    assert result.error == "ValueError: lone ? surrogate"


async def test_an_answer_that_json_can_not_hold_is_a_failure(start_server, run_worker, until):
    result = await one_result(start_server, run_worker, until, lambda data: {"ok": 1, "n": math.nan})
    assert result.status == pb.ActionResult.FAIL
    assert "NaN" in result.error
    assert not result.data


async def test_an_answer_within_itself_is_a_failure(start_server, run_worker, until):
    def function(data):
        data["self"] = data
        return data

    result = await one_result(start_server, run_worker, until, function)
    assert result.status == pb.ActionResult.FAIL
    assert "within each other" in result.error


async def test_a_function_of_two_gets_the_context(start_server, run_worker, until):
    seen = []

    async def function(data, context):
        seen.append(context)

    await one_result(start_server, run_worker, until, function)
    assert seen == [ActionContext("w", "flow-9", 3, "act", 2, 60)]


async def test_a_second_argument_with_a_default_is_the_functions_own(start_server, run_worker, until):
    result = await one_result(
        start_server, run_worker, until, lambda data, factor=3: {"n": data["n"] * factor}, {"n": 2}
    )
    assert json_of_map(result.data) == {"n": 6}


async def test_a_callable_object_may_be_async(start_server, run_worker, until):
    class Function:
        async def __call__(self, data):
            return {"n": data["n"] + 1}

    result = await one_result(start_server, run_worker, until, Function(), {"n": 2})
    assert json_of_map(result.data) == {"n": 3}


async def test_the_server_is_told_of_each_action_with_times_in_whole_seconds_rounded_up(
    start_server, run_worker, until
):
    site = await start_server()
    worker = Worker(site.address)
    options = {"retry_count": 3, "retry_policy": "backoff", "retry_after_seconds": 0.2, "timeout_seconds": 1.5}
    worker.action("a", **options)(lambda data: {})
    worker.action("b")(lambda data: {})
    run_worker(worker)
    await until(lambda: len(site.script.definitions) == 2)
    first, second = site.script.definitions
    assert (first.name, first.retryCount, first.retryPolicy) == ("a", 3, "BACKOFF")
    assert (first.retryAfterSeconds, first.timeoutSeconds) == (1, 2)
    assert (second.name, second.retryCount, second.timeoutSeconds) == ("b", 1, 0)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"threads": 0}, "threads"),
        ({"batch_size": 0}, "batch_size"),
        ({"retry_count": -1}, "negative"),
        ({"poll_interval_seconds": 0}, "poll interval"),
        ({"retry_policy": "SOMETIMES"}, "SOMETIMES.*FIXED, BACKOFF"),
    ],
)
def test_a_mistake_shows_when_the_worker_is_written(options, error):
    with pytest.raises(ValueError, match=error):
        Worker("127.0.0.1:1").action("act", **options)(lambda data: {})


@pytest.mark.parametrize("address", ["", "8099", "host", "host:", ":8099", "host:port", "host:0", "host:99999"])
def test_an_address_that_is_none_is_refused(address):
    with pytest.raises(ValueError, match="address"):
        Worker(address)


def test_two_functions_of_one_name_and_a_worker_without_any_are_refused():
    worker = Worker("127.0.0.1:1")
    with pytest.raises(ValueError, match="at least one action"):
        worker.run()
    worker.action("act")(lambda data: {})
    with pytest.raises(ValueError, match="already"):
        worker.action("act")(lambda data: {})


@pytest.mark.real
def test_the_library_brings_no_part_of_the_server_with_it():
    code = """
import sys
for name in ("redis", "hiredis", "quart", "quart_trio", "hypercorn", "purerpc", "mmh3", "jsonpath_ng"):
    sys.modules[name] = None
import orchy.worker
parts = {name.split(".")[1] for name in sys.modules if name.startswith("orchy.")}
assert parts <= {"worker", "rpc", "flow", "errors", "runtime"}, parts
assert not {"orchy.rpc.grpc.server", "orchy.rpc.api.servicer"} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def held_worker(address, release, slots=20):
    """Its results are all there at one moment."""
    worker = Worker(address, worker_id="w1")

    @worker.action("act", threads=slots, batch_size=slots)
    async def act(data):
        await release.wait()
        return data

    return worker


@pytest.mark.parametrize("knows", [True, False], ids=["in one call", "one by one for an older server"])
async def test_results_that_are_there_at_once_leave_together(start_server, run_worker, until, knows):
    site = await start_server()
    site.script.knows_push_all = knows
    release = trio.Event()
    for number in range(20):
        site.script.put("act", {"n": number}, flow_id=str(number))
    run_worker(held_worker(site.address, release))
    await until(lambda: not site.script.queues["act"])
    await trio.testing.wait_all_tasks_blocked(0.01)
    release.set()
    await until(lambda: len(site.script.results) == 20)
    assert {result.flowId for result in site.script.results} == {str(number) for number in range(20)}
    assert sum(site.script.batches) >= 19 if knows else site.script.batches == []
    assert len(site.script.batches) <= 3


async def test_one_refused_result_holds_up_no_other_of_its_call(start_server, run_worker, until):
    site = await start_server()
    release = trio.Event()
    for number in range(5):
        site.script.put("act", {"n": number}, flow_id=str(number))
    site.script.refused_flow = "3"
    run_worker(held_worker(site.address, release))
    await until(lambda: not site.script.queues["act"])
    release.set()
    await until(lambda: len(site.script.results) == 5)
    failed = [result for result in site.script.results if result.status == pb.ActionResult.FAIL]
    assert [result.flowId for result in failed] == ["3"]
    assert "the server refused the result: too strange" in failed[0].error
    assert len({result.flowId for result in site.script.results}) == 5


async def test_a_server_that_does_not_answer_for_each_result_has_taken_none(start_server, run_worker, until):
    site = await start_server()
    release = trio.Event()
    site.script.forgets_outcomes = 1
    for number in range(5):
        site.script.put("act", flow_id=str(number))
    run_worker(held_worker(site.address, release))
    await until(lambda: not site.script.queues["act"])
    release.set()
    await until(lambda: len(site.script.results) > 5)  # pushed again: the server counts each once
    assert {result.flowId for result in site.script.results} == set("01234")
