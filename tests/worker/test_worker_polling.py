"""A worker takes what it has slots for, from every server that is there, and asks no more often than it needs to."""

from __future__ import annotations

import threading

import trio

from orchy.rpc.grpc.framing import Code, Status
from orchy.worker import Worker
from orchy.worker.parameters import DEFAULTS, Parameters


class Gate:
    """An async function that counts how many of it run, and lets them go when told."""

    def __init__(self) -> None:
        self.running = 0
        self.most = 0
        self.open = trio.Event()

    async def __call__(self, data):
        self.running += 1
        self.most = max(self.most, self.running)
        await self.open.wait()
        self.running -= 1
        return {}


async def settle() -> None:
    """Long enough for a poll that must not come to come, on a quick machine; on a slow one the test says less."""
    await trio.sleep(0.2)


async def test_a_worker_takes_no_more_than_it_has_slots_for(start_server, run_worker, until):
    site = await start_server()
    gate = Gate()
    worker = Worker(site.address)
    worker.action("act", threads=3, batch_size=50)(gate)
    for number in range(10):
        site.script.put("act", flow_id=f"f{number}")
    run_worker(worker)
    await until(lambda: gate.running == 3)
    await settle()
    assert gate.running == 3
    assert len(site.script.queues["act"]) == 7
    assert max(count for _, count, _ in site.script.polls) == 3
    gate.open.set()
    await until(lambda: len(site.script.results) == 10)
    assert gate.most == 3
    assert sorted(result.flowId for result in site.script.results) == [f"f{number}" for number in range(10)]


async def test_a_batch_is_no_larger_than_the_action_says(start_server, run_worker, until):
    site = await start_server()
    worker = Worker(site.address)
    worker.action("act", threads=50, batch_size=4)(Gate())
    for _ in range(20):
        site.script.put("act")
    run_worker(worker)
    await until(lambda: not site.script.queues["act"])
    assert {count for _, count, _ in site.script.polls} == {4}


async def test_threads_run_side_by_side(start_server, run_worker, until):
    site = await start_server()
    worker = Worker(site.address)
    barrier = threading.Barrier(4)

    @worker.action("act", threads=4)
    def act(data):
        barrier.wait(30)
        return {}

    for _ in range(4):
        site.script.put("act")
    run_worker(worker)
    await until(lambda: len(site.script.results) == 4)


async def test_work_that_comes_while_a_poll_waits_is_taken_at_once(start_server, run_worker, until):
    site = await start_server()
    worker = Worker(site.address)
    worker.action("act", poll_interval_seconds=1000)(lambda data: {})
    run_worker(worker)
    for number in range(5):
        await until(lambda: site.script.polling == 1)
        site.script.put("act")
        await until(lambda number=number: len(site.script.results) == number + 1)


async def test_an_idle_worker_holds_one_poll_for_each_server_and_action(start_server, run_worker, until):
    sites = [await start_server() for _ in range(3)]
    worker = Worker(sites[0].address)
    for name in ("a", "b"):
        worker.action(name, threads=8)(lambda data: {})
    run_worker(worker)
    await until(lambda: all(site.script.polling == 2 for site in sites))
    counts = [len(site.script.polls) for site in sites]
    await settle()
    assert [len(site.script.polls) for site in sites] == counts
    waits = [wait_millis for site in sites for _, _, wait_millis in site.script.polls if wait_millis]
    assert len(waits) == 6
    assert set(waits) <= {DEFAULTS.poll_wait_seconds * 1000, DEFAULTS.last_slot_wait_seconds * 1000}


async def test_a_server_that_can_not_hold_a_poll_is_asked_at_the_interval(start_server, run_worker, until):
    site = await start_server()
    site.script.can_wait = False
    worker = Worker(site.address)
    worker.action("act", poll_interval_seconds=1000)(lambda data: {})
    run_worker(worker)
    await until(lambda: len(site.script.polls) >= 2)
    await settle()
    assert len(site.script.polls) == 2, "one for what is there, one to wait"


async def test_work_is_found_on_a_server_that_can_not_hold_a_poll(start_server, run_worker, until):
    site = await start_server()
    site.script.can_wait = False
    worker = Worker(site.address)
    worker.action("act", poll_interval_seconds=0.01)(lambda data: {})
    run_worker(worker)
    await until(lambda: len(site.script.polls) >= 3)
    site.script.put("act")
    await until(lambda: len(site.script.results) == 1)


async def test_a_server_that_fails_is_asked_at_the_interval_and_said_once(start_server, run_worker, until, caplog):
    site = await start_server()
    site.script.poll_error = Status(Code.UNAVAILABLE, "the store is gone")
    worker = Worker(site.address)
    worker.action("act", poll_interval_seconds=0.02)(lambda data: {})
    run_worker(worker)
    await until(lambda: len(site.script.polls) >= 6)
    assert caplog.text.count("the store is gone") == 1
    site.script.poll_error = None
    site.script.put("act")
    await until(lambda: len(site.script.results) == 1)


async def test_with_one_thread_every_server_has_its_turn(start_server, run_worker, until):
    sites = [await start_server() for _ in range(4)]
    worker = Worker(sites[0].address)
    worker.action("act", threads=1, poll_interval_seconds=0.4)(lambda data: {})
    run_worker(worker)
    for number in range(3):
        for site in sites:
            site.script.put("act")
        await until(lambda number=number: sum(len(site.script.results) for site in sites) == 4 * (number + 1))
    assert all(count == 1 for site in sites for _, count, _ in site.script.polls)
    assert sum(site.script.polling for site in sites) <= 1


async def test_a_busy_server_may_use_the_slots_that_idle_ones_do_not_need(start_server, run_worker, until):
    sites = [await start_server() for _ in range(3)]
    gate = Gate()
    worker = Worker(sites[0].address)
    worker.action("act", threads=12, batch_size=100)(gate)
    run_worker(worker)
    await until(lambda: all(site.script.polling == 1 for site in sites))
    for _ in range(30):
        sites[1].script.put("act")
    await until(lambda: gate.running >= 6)
    gate.open.set()
    await until(lambda: sum(len(site.script.results) for site in sites) == 30)


async def test_a_server_that_gives_more_than_was_asked_for_waits_for_slots(
    start_server, run_worker, until, monkeypatch
):
    site = await start_server()
    site.script.queues["act"] = []
    gate = Gate()
    worker = Worker(site.address)
    worker.action("act", threads=2)(gate)
    original = site.script.Poll

    async def generous(request):
        request.batchSize = 5
        return await original(request)

    monkeypatch.setattr(type(site.script), "Poll", lambda self, request: generous(request))
    for _ in range(5):
        site.script.put("act")
    site.kill()
    await until(lambda: site.scope.cancelled_caught)
    await site.start()
    run_worker(worker)
    await until(lambda: gate.running == 2)
    await settle()
    assert gate.most == 2
    gate.open.set()
    await until(lambda: len(site.script.results) == 5)
    assert gate.most == 2


async def test_results_that_nobody_takes_stop_the_taking_of_work(start_server, run_worker, until):
    site = await start_server()
    site.script.refusal = Status(Code.UNAVAILABLE, "not now")
    worker = Worker(site.address, _parameters=Parameters(unpushed_min=5))
    done = []
    worker.action("act", threads=2)(lambda data: done.append(1))
    for _ in range(50):
        site.script.put("act")
    run_worker(worker)
    await until(lambda: len(done) == 5 + 2)
    await settle()
    assert len(done) == 5 + 2
    site.script.refusal = None
    await until(lambda: len(site.script.results) == 50)
