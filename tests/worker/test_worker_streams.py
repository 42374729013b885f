"""Streams: where all servers have them, work comes and results go on them; else, and when they break, by calls."""

from __future__ import annotations

import threading

import attrs
import pytest
import trio
import trio.testing

from orchy.rpc.generated import action_service_pb2 as pb
from orchy.rpc.grpc.framing import Code
from orchy.worker import Worker
from tests.worker.conftest import HURRIED

#: Of a worker that does not wait long for answers on its streams.
IMPATIENT = attrs.evolve(HURRIED, stream_answer_seconds=0.1)


class Held:
    """A worker whose function `act` holds what it gets until it is let go."""

    def __init__(self, *addresses, threads=4, parameters=HURRIED, **more):
        self.worker = Worker(*addresses, worker_id="w1", _parameters=parameters, **more)
        self.begun = []
        self.running = self.running_max = 0
        self.let_go = trio.Event()
        self.worker.action("act", threads=threads, poll_interval_seconds=0.05)(self.act)

    async def act(self, data, context):
        self.begun.append(context)
        self.running += 1
        self.running_max = max(self.running_max, self.running)
        await self.let_go.wait()
        self.running -= 1
        return {"attempt": context.attempt}


def echo(*addresses, threads=4, parameters=HURRIED):
    worker = Worker(*addresses, worker_id="w1", _parameters=parameters)
    worker.action("act", threads=threads, poll_interval_seconds=0.05)(lambda data: data)
    return worker


async def test_work_and_results_take_the_stream_and_no_calls(start_server, run_worker, until):
    site = await start_server(streams=True)
    run_worker(echo(site.address))
    await until(lambda: site.script.open)
    for number in range(20):
        site.script.put("act", {"n": number}, flow_id=str(number))
    await until(lambda: len(site.script.results) == 20)
    assert {result.data["n"].number_value for result in site.script.results} == set(range(20))
    assert (site.script.polls, site.script.pushes) == ([], 0)
    (only,) = site.script.streams
    assert only.worker == "w1"
    assert [message.number for message in only.messages] == list(range(1, len(only.messages) + 1))
    await until(lambda: only.credit["act"] == 4)


async def test_slots_are_shared_out_to_all_servers(start_server, run_worker, until):
    sites = [await start_server(streams=True) for _ in range(3)]
    held = Held(sites[0].address, threads=12)
    run_worker(held.worker)

    def credit():
        return [sum(stream.credit["act"] for stream in site.script.open) for site in sites]

    await until(lambda: all(credit()) and sum(credit()) == 12)
    for number in range(20):
        sites[1].script.put("act", flow_id=str(number))
    await until(lambda: len(held.begun) == 12 - sum(credit()) and credit()[1] == 0)
    assert max(credit()) <= 3  # the others keep their shares
    sites[0].script.put("act")
    await until(lambda: any(context.flow_id == "f" for context in held.begun))


async def test_one_slot_serves_all_servers(start_server, run_worker, until):
    sites = [await start_server(streams=True) for _ in range(3)]
    run_worker(echo(sites[0].address, threads=1))
    await until(lambda: all(site.script.open for site in sites))
    for number in range(30):
        sites[0].script.put("act", flow_id=str(number))
        sites[2].script.put("act", flow_id=str(number))
    sites[1].script.put("act")
    await until(lambda: [len(site.script.results) for site in sites] == [30, 1, 30])


@pytest.mark.parametrize("beyond_credit", [False, True])
async def test_no_more_run_than_there_are_slots(start_server, run_worker, until, beyond_credit):
    site = await start_server(streams=True)
    held = Held(site.address, threads=2)
    run_worker(held.worker)
    await until(lambda: site.script.open and site.script.open[0].credit["act"] == 2)
    for number in range(6):
        site.script.put("act", flow_id=str(number))
    if beyond_credit:
        site.script.hand_out(beyond_credit=True)
    await until(lambda: held.running == 2)
    held.let_go.set()
    await until(lambda: len(site.script.results) == 6)
    assert held.running_max == 2
    await until(lambda: site.script.open[0].credit["act"] == 2)


async def test_a_worker_with_very_many_slots_asks_for_what_a_server_gives(start_server, run_worker, until):
    site = await start_server(streams=True)
    worker = Worker(site.address, _parameters=attrs.evolve(HURRIED, slots_max=50))
    for name, threads in (("x", 100), ("y", 300)):
        worker.action(name, threads=threads)(lambda data: {})
    run_worker(worker)
    await until(lambda: site.script.open and sum(site.script.open[0].credit.values()) >= 49)
    await trio.sleep(0.1)
    assert 49 <= sum(site.script.open[0].credit.values()) <= 50


# Servers that have streams, and others.


async def test_one_server_without_streams_is_enough_for_polls(start_server, run_worker, until):
    old, new = await start_server(), await start_server(streams=True)
    run_worker(echo(new.address))
    await until(lambda: old.script.polling == 1 and new.script.polling == 1)
    assert not new.script.open
    new.script.put("act")
    await until(lambda: len(old.script.results) + len(new.script.results) == 1)


async def test_a_worker_moves_to_polls_and_back_as_servers_come_and_go(start_server, run_worker, until, caplog):
    new = await start_server(streams=True)
    worker = Worker(new.address, _parameters=HURRIED)
    running = []

    @worker.action("act", threads=4, poll_interval_seconds=0.05)
    async def act(data):
        running.append(1)
        assert len(running) <= 4
        await trio.sleep(0.01)
        running.pop()
        return {}

    run_worker(worker)
    for turn in range(2):
        await until(lambda: new.script.open)
        for number in range(10):
            new.script.put("act", flow_id=f"{turn} stream {number}")
        old = await start_server()
        await until(lambda old=old: old.script.polling == 1 and new.script.polling == 1)
        await until(lambda: not new.script.open)
        for number in range(10):
            old.script.put("act", flow_id=f"{turn} poll {number}")
        expected = 20 * (turn + 1)
        await until(lambda old=old, expected=expected: len(new.script.results) + len(old.script.results) >= expected)
        new.script.results += old.script.results
        new.script.listed.remove(old.address)
        old.kill()
    await until(lambda: new.script.open and new.script.open[0].credit["act"] == 4)
    assert len({result.flowId for result in new.script.results}) == 40
    assert "a stream ended" not in caplog.text
    assert not any(batch > 4 for _, batch, _ in new.script.polls)


async def test_a_server_that_says_goodbye_gets_the_results_that_it_is_owed(start_server, run_worker, until):
    site = await start_server(streams=True)
    held = Held(site.address)
    run_worker(held.worker)
    await until(lambda: site.script.open)
    (first,) = site.script.open
    site.script.put("act")
    await until(lambda: held.running == 1)
    site.script.say_goodbye()
    await until(lambda: first.heard_goodbye)
    assert not first.ended
    held.let_go.set()
    await until(lambda: len(site.script.results) == 1 and first.ended)
    assert site.script.pushes == 0
    await until(lambda: site.script.open)  # it is asked again
    await until(lambda: site.script.open[0].credit["act"] == 4)


# Streams that break, and servers that do not answer.


@pytest.mark.parametrize("how", ["stream", "connection"])
async def test_results_of_a_stream_that_broke_are_pushed(start_server, run_worker, until, how):
    site, other = await start_server(streams=True), await start_server(streams=True)
    held = Held(site.address)
    run_worker(held.worker)
    await until(lambda: site.script.open and other.script.open)
    site.script.put("act")
    await until(lambda: held.running == 1)
    if how == "stream":
        site.script.end_streams()
        await until(lambda: len(site.script.streams) == 2)
    else:
        site.kill()
        await until(lambda: site.scope.cancelled_caught)
    held.let_go.set()
    await until(lambda: len(site.script.results) + len(other.script.results) == 1)
    assert site.script.pushes + other.script.pushes == 1


async def test_results_that_are_not_answered_are_pushed_again_elsewhere(start_server, run_worker, until):
    site, other = await start_server(streams=True), await start_server(streams=True)
    run_worker(echo(site.address, threads=8, parameters=IMPATIENT))
    await until(lambda: site.script.open and other.script.open)
    await until(lambda: site.script.open[0].credit["act"])
    site.script.answers = False
    site.script.swallows_pushes = True
    site.script.put("act", flow_id="one")
    await until(lambda: [result.flowId for result in other.script.results] == ["one"])
    before = len(site.script.open[0].messages)
    site.script.put("act", flow_id="two")  # nothing is brought to it while it is late
    await until(lambda: len(other.script.results) == 2)
    assert not any(message.results for message in site.script.open[0].messages[before:])


async def test_while_nothing_is_answered_few_messages_leave(start_server, run_worker, until):
    site = await start_server(streams=True)
    patient = attrs.evolve(HURRIED, result_messages_max=3, stream_answer_seconds=60)
    held = Held(site.address, threads=40, parameters=patient)
    held.let_go.set()
    run_worker(held.worker)
    await until(lambda: site.script.open and site.script.open[0].credit["act"] == 40)
    site.script.answers = False

    def brought():
        return [message for message in site.script.open[0].messages if message.results]

    for number in range(20):
        site.script.put("act", flow_id=str(number))
        await until(lambda number=number: sum(len(m.results) for m in brought()) > min(2, number))
    await until(lambda: len(held.begun) == 20)
    await trio.sleep(0.05)
    assert len(brought()) == 3
    site.script.answers = True
    for message in brought():
        site.script._answer(message, site.script.open[0])
    await until(lambda: len(site.script.results) == 20)
    assert len(brought()) == 4


@pytest.mark.parametrize("code", [Code.UNAVAILABLE, Code.INVALID_ARGUMENT])
async def test_a_result_that_is_not_taken_on_the_stream_is_pushed(start_server, run_worker, until, code):
    site = await start_server(streams=True)
    run_worker(echo(site.address))
    await until(lambda: site.script.open)
    site.script.outcome = pb.PushOutcome(code=int(code), message="not now")
    site.script.put("act")
    await until(lambda: len(site.script.results) == 1)
    assert site.script.pushes == 1
    assert site.script.results[0].status == (pb.ActionResult.FAIL if code is Code.INVALID_ARGUMENT else 0)


async def test_a_large_result_takes_a_call(start_server, run_worker, until):
    site = await start_server(streams=True)
    worker = Worker(site.address, _parameters=HURRIED)
    worker.action("act")(lambda data: {"text": "x" * HURRIED.bytes_per_call})
    run_worker(worker)
    await until(lambda: site.script.open)
    site.script.put("act")
    await until(lambda: len(site.script.results) == 1)
    assert site.script.pushes == 1


async def test_work_that_nobody_asked_for_is_told(start_server, run_worker, until, caplog):
    site = await start_server(streams=True)
    run_worker(echo(site.address))
    await until(lambda: site.script.open)
    site.script.put("other")
    site.script.hand_out(beyond_credit=True)
    await until(lambda: "'other' came" in caplog.text)
    site.script.put("act")
    await until(lambda: len(site.script.results) == 1)


# Extensions.


@pytest.mark.parametrize("threaded", [False, True])
async def test_a_function_extends_its_attempt_and_hears_that_it_is_over(start_server, run_worker, until, threaded):
    site = await start_server(streams=True)
    worker = Worker(site.address, _parameters=HURRIED)
    contexts, done = [], threading.Event()

    def wait(data, context):
        context.extend()
        contexts.append(context)
        done.wait(30)
        return {}

    async def wait_async(data, context):
        context.extend()
        contexts.append(context)
        while not done.is_set():
            await trio.sleep(0.005)
        return {}

    worker.action("act")(wait if threaded else wait_async)
    running = run_worker(worker)
    await until(lambda: site.script.open)
    site.script.put("act", flow_id="f1", attempt=2)
    try:
        await until(lambda: site.script.extended == [("f1", 3, 2)])
        assert not contexts[0].over
        site.script.over = True
        contexts[0].extend()
        await until(lambda: contexts[0].over)
    finally:
        done.set()
    await until(lambda: len(site.script.results) == 1)
    await running.stop()
    contexts[0].extend()  # by then to nobody


async def test_extensions_that_are_asked_for_again_and_again_are_one(start_server, run_worker, until):
    site = await start_server(streams=True)
    held = Held(site.address)
    run_worker(held.worker)
    await until(lambda: site.script.open)
    site.script.put("act")
    await until(lambda: held.running == 1)
    for _ in range(1_000):
        held.begun[0].extend()
    await until(lambda: site.script.extended)
    await trio.sleep(0.05)
    assert len(site.script.extended) <= 2


async def test_an_extension_goes_to_another_server_when_its_own_is_gone(start_server, run_worker, until):
    site, other = await start_server(streams=True), await start_server(streams=True)
    held = Held(site.address)
    run_worker(held.worker)
    await until(lambda: site.script.open and other.script.open)
    site.script.put("act")
    await until(lambda: held.running == 1)
    site.kill()
    await until(lambda: site.scope.cancelled_caught)
    held.begun[0].extend()
    await until(lambda: other.script.extended == [("f", 3, 1)])


async def test_an_extension_waits_for_the_next_stream(start_server, run_worker, until):
    site = await start_server(streams=True)
    held = Held(site.address)
    run_worker(held.worker)
    await until(lambda: site.script.open)
    site.script.put("act")
    await until(lambda: held.running == 1)
    site.script.answers = False
    held.begun[0].extend()
    await until(lambda: len(site.script.extended) == 1)  # and is never answered
    site.kill()
    await until(lambda: site.scope.cancelled_caught)
    await site.start()
    await until(lambda: len(site.script.extended) == 2)


async def test_an_attempt_that_came_by_a_poll_is_extended_when_there_are_streams(start_server, run_worker, until):
    old, new = await start_server(), await start_server(streams=True)
    held = Held(new.address)
    run_worker(held.worker)
    await until(lambda: old.script.polling == 1)
    old.script.put("act")
    await until(lambda: held.running == 1)
    held.begun[0].extend()  # nobody hears of that
    new.script.listed.remove(old.address)
    old.kill()
    await until(lambda: new.script.open)
    assert new.script.extended == []
    held.begun[0].extend()
    await until(lambda: new.script.extended == [("f", 3, 1)])


# The stop.


async def test_a_stop_says_goodbye_and_finishes_what_is_held(start_server, run_worker, until):
    site = await start_server(streams=True)
    held = Held(site.address)
    running = run_worker(held.worker)
    await until(lambda: site.script.open)
    (only,) = site.script.open
    site.script.put("act")
    await until(lambda: held.running == 1)
    running.stopping.set()
    await until(lambda: only.heard_goodbye)
    assert not only.ended
    held.let_go.set()
    await running.stop()
    assert len(site.script.results) == 1
    assert site.script.pushes == 0
    assert only.ended


async def test_what_crosses_the_goodbye_is_done(start_server, run_worker, until):
    site = await start_server(streams=True)
    held = Held(site.address)
    held.let_go.set()
    running = run_worker(held.worker)
    await until(lambda: site.script.open)
    running.stopping.set()
    site.script.put("act")
    await running.stop()
    assert len(site.script.results) + len(site.script.queues["act"]) == 1
    assert len(held.begun) == len(site.script.results)


async def test_a_server_that_says_no_goodbye_does_not_hold_up_the_stop(start_server, run_worker, until):
    site = await start_server(streams=True)
    running = run_worker(echo(site.address))
    await until(lambda: site.script.open)
    site.script.answers = site.script.says_goodbye = False
    with trio.fail_after(5):
        await running.stop()


async def test_a_result_that_a_stream_does_not_answer_is_brought_home_before_the_end(start_server, run_worker, until):
    site = await start_server(streams=True)
    held = Held(site.address, parameters=IMPATIENT)
    running = run_worker(held.worker)
    await until(lambda: site.script.open)
    site.script.put("act")
    await until(lambda: held.running == 1)
    site.script.answers = site.script.says_goodbye = False
    running.stopping.set()
    held.let_go.set()
    with trio.fail_after(10):
        await running.stop()
    assert (len(site.script.results), site.script.pushes) == (1, 1)
