"""A stop finishes what is held, and does not wait for ever."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading

import pytest
import trio

from orchy.rpc.generated import action_service_pb2 as pb
from orchy.worker import Worker
from orchy.worker.parameters import DEFAULTS


async def test_a_stop_finishes_what_is_held_and_pushes_it(start_server, run_worker, until):
    site = await start_server()
    begun, go_on = trio.Event(), trio.Event()
    worker = Worker(site.address)

    @worker.action("act", threads=1)
    async def act(data):
        begun.set()
        await go_on.wait()
        return {"done": True}

    site.script.put("act", flow_id="held")
    site.script.put("act", flow_id="not taken")
    running = run_worker(worker)
    await until(begun.is_set)
    running.stopping.set()
    await trio.sleep(2 * DEFAULTS.last_answer_seconds)
    assert not running.returned.is_set()
    go_on.set()
    await running.stop()
    assert [result.flowId for result in site.script.results] == ["held"]
    assert [action.flowId for action in site.script.queues["act"]] == ["not taken"]


async def test_an_idle_worker_stops_soon_and_lets_its_polls_go(start_server, run_worker, until):
    site = await start_server()
    worker = Worker(site.address)
    worker.action("act")(lambda data: {})
    running = run_worker(worker)
    await until(lambda: site.script.polling == 1)
    began = trio.current_time()
    await running.stop()
    assert trio.current_time() - began < DEFAULTS.poll_wait_seconds / 2
    await until(lambda: site.script.polling == 0 and site.server.connections == 0)


async def test_an_answer_that_crosses_the_stop_is_work_that_is_done(start_server, run_worker, until):
    site = await start_server()
    worker = Worker(site.address)
    worker.action("act")(lambda data: {})
    running = run_worker(worker)
    await until(lambda: site.script.polling == 1)
    running.stopping.set()
    await trio.testing.wait_all_tasks_blocked()
    site.script.put("act")
    await running.stop()
    assert len(site.script.results) == 1
    assert site.script.cut_off_polls == 0


async def test_a_thread_that_never_ends_does_not_hold_up_the_stop(start_server, run_worker, until):
    site = await start_server()
    begun, release = threading.Event(), threading.Event()
    worker = Worker(site.address, grace_seconds=0.2)

    @worker.action("act")
    def act(data):
        begun.set()
        release.wait(60)
        return {}

    site.script.put("act")
    running = run_worker(worker)
    try:
        await until(begun.is_set)
        await running.stop()
    finally:
        release.set()
    assert not site.script.results


async def test_a_result_that_nobody_takes_does_not_hold_up_the_stop(start_server, run_worker, until):
    site = await start_server()
    worker = Worker(site.address, grace_seconds=0.2)
    worker.action("act")(lambda data: {})
    site.script.swallows_pushes = True
    site.script.put("act")
    running = run_worker(worker)
    await until(lambda: site.script.pushes == 1)
    await running.stop()


async def test_a_worker_without_any_server_stops(run_worker):
    worker = Worker("127.0.0.1:1")
    worker.action("act")(lambda data: {})
    running = run_worker(worker)
    await trio.testing.wait_all_tasks_blocked()
    await running.stop()


async def test_a_worker_in_another_thread_is_stopped_from_this_one(start_server, until):
    site = await start_server()
    worker = Worker(site.address)
    worker.action("act")(lambda data: {"n": 1})
    site.script.put("act")
    worker.stop()  # nothing runs: nothing happens
    thread = threading.Thread(target=worker.run)
    thread.start()
    await until(lambda: len(site.script.results) == 1)
    worker.stop()
    await trio.to_thread.run_sync(thread.join, 30)
    assert not thread.is_alive()


WORKER = """
import time
from orchy.worker import Worker

worker = Worker("{address}", grace_seconds={grace})

@worker.action("act")
def act(data):
    time.sleep(data["seconds"])
    return {{"slept": data["seconds"]}}
"""


def start_process(folder, name, **options):
    return subprocess.Popen([sys.executable, "-m", "orchy.worker", name], cwd=folder, **options)


@pytest.mark.real
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_finishes_what_is_held(start_server, until, tmp_path, number):
    site = await start_server()
    (tmp_path / "shop.py").write_text(textwrap.dedent(WORKER.format(address=site.address, grace=30)))
    site.script.put("act", {"seconds": 1})
    process = start_process(tmp_path, "shop:worker")
    try:
        await until(lambda: site.script.queues["act"] == [])
        process.send_signal(number)
        assert await trio.to_thread.run_sync(process.wait, 30) == 0
    finally:
        process.kill()
    assert [result.status for result in site.script.results] == [pb.ActionResult.SUCCESS]


@pytest.mark.real
async def test_a_function_that_never_ends_and_a_second_signal(start_server, until, tmp_path):
    site = await start_server()
    (tmp_path / "shop.py").write_text(textwrap.dedent(WORKER.format(address=site.address, grace=1000)))
    site.script.put("act", {"seconds": 1000})
    process = start_process(tmp_path, "shop", stderr=subprocess.PIPE, text=True)
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(iter(process.stderr.readline, "")))
    reader.start()
    try:
        await until(lambda: site.script.queues["act"] == [])
        process.send_signal(signal.SIGTERM)
        await until(lambda: any("finishing what is held" in line for line in lines))
        process.send_signal(signal.SIGTERM)
        assert await trio.to_thread.run_sync(process.wait, 30) == 0
    finally:
        process.kill()
        reader.join(30)
        process.stderr.close()
    assert not any("Traceback" in line for line in lines)


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "said"), [("no_such_module", "no module"), ("os:sep", "no Worker"), ("os", "no Worker")]
)
def test_the_runner_says_in_a_line_what_is_not_there(name, said, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "orchy.worker", name],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ,
    )
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
