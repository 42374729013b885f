"""A worker says that it lives and what it holds, to whichever server asks or is left."""

from __future__ import annotations

import time

import attrs
import pytest
import trio

from orchy.rpc.generated import action_service_pb2 as pb
from orchy.worker import Worker
from orchy.worker.held import HeldAttempts
from tests.worker.conftest import HURRIED


class Holder:
    """A worker that holds what it gets until it is let go."""

    def __init__(self, *addresses, threads=8, parameters=HURRIED):
        self.worker = Worker(*addresses, worker_id="w1", _parameters=parameters)
        self.let_go = trio.Event()
        self.running = 0
        self.worker.action("act", threads=threads, poll_interval_seconds=0.05)(self.act)

    async def act(self, data):
        self.running += 1
        await self.let_go.wait()
        return {}


def say(site, **fields):
    for one in site.script.open:
        one.out.send_nowait(pb.ServerMessage(**fields))


def said(site, field):
    messages = [message for one in site.script.streams for message in one.messages]
    return [(a.flowId, a.actionId, a.retryCount) for message in messages for a in getattr(message, field)]


async def test_the_first_message_says_that_it_renews(start_server, run_worker, until):
    site = await start_server(streams=True)
    run_worker(Holder(site.address).worker)
    await until(lambda: site.script.open)
    assert site.script.open[0].messages[0].renews


async def test_something_is_said_often_enough_while_a_thread_works(start_server, run_worker, until):
    site = await start_server(streams=True)
    worker = Worker(site.address, _parameters=HURRIED)
    worker.action("act")(lambda data: time.sleep(1))
    run_worker(worker)
    await until(lambda: site.script.open)
    site.script.put("act")
    await until(lambda: not site.script.queues["act"])
    say(site, leaseMillis=200)
    before = len(site.script.open[0].messages)
    await until(lambda: len(site.script.open[0].messages) > before + 3)
    assert site.script.results == []


async def test_nothing_is_said_to_a_server_without_leases(start_server, run_worker, until):
    site = await start_server(streams=True)
    run_worker(Holder(site.address).worker)
    await until(lambda: site.script.open)
    await trio.sleep(0.1)
    before = len(site.script.open[0].messages)
    await trio.sleep(0.2)
    assert len(site.script.open[0].messages) == before


async def test_a_question_is_answered_with_what_is_held_and_what_is_not(start_server, run_worker, until):
    site = await start_server(streams=True)
    holder = Holder(site.address)
    run_worker(holder.worker)
    await until(lambda: site.script.open)
    site.script.put("act", flow_id="mine")
    await until(lambda: holder.running == 1)
    asks = [pb.Attempt(flowId=flow_id, actionId=3, retryCount=1) for flow_id in ("mine", "other")]
    say(site, asks=asks)
    await until(lambda: said(site, "holding") and said(site, "missing"))
    assert said(site, "holding") == [("mine", 3, 1)]
    assert said(site, "missing") == [("other", 3, 1)]
    assert next(message.upMillis for message in site.script.open[0].messages if message.missing) > 0
    holder.let_go.set()
    await until(lambda: len(site.script.results) == 1)
    say(site, asks=asks[:1])
    await until(lambda: said(site, "missing")[1:] == [("mine", 3, 1)])


async def test_what_is_held_is_said_to_another_server_when_the_first_is_gone(start_server, run_worker, until):
    first, second = [await start_server(streams=True) for _ in range(2)]
    holder = Holder(first.address)
    run_worker(holder.worker)
    await until(lambda: first.script.open and second.script.open and first.script.open[0].credit["act"])
    first.script.put("act", flow_id="mine")
    await until(lambda: holder.running == 1)
    first.kill()
    await until(lambda: said(second, "holding") == [("mine", 3, 1)])
    holder.let_go.set()
    await until(lambda: len(second.script.results) == 1)


@pytest.mark.parametrize("how", ["stream", "server"])
async def test_what_is_held_is_said_on_the_next_stream(start_server, run_worker, until, how):
    site = await start_server(streams=True)
    holder = Holder(site.address)
    run_worker(holder.worker)
    await until(lambda: site.script.open)
    site.script.put("act", flow_id="mine")
    await until(lambda: holder.running == 1)
    if how == "stream":
        site.script.end_streams()
    else:
        site.kill()
        await site.start()
    await until(lambda: said(site, "holding") == [("mine", 3, 1)])
    holder.let_go.set()
    await until(lambda: len(site.script.results) == 1)


async def test_many_are_said_in_messages_of_a_thousand(start_server, run_worker, until):
    site = await start_server(streams=True)
    holder = Holder(site.address, parameters=attrs.evolve(HURRIED, held_per_message=3))
    run_worker(holder.worker)
    await until(lambda: site.script.open)
    for number in range(8):
        site.script.put("act", flow_id=str(number))
    await until(lambda: holder.running == 8)
    site.script.end_streams()
    await until(lambda: len(said(site, "holding")) == 8)
    assert max(len(m.holding) for one in site.script.streams for m in one.messages) == 3
    holder.let_go.set()
    await until(lambda: len(site.script.results) == 8)


async def test_each_attempt_has_one_home(autojump_clock):
    held = HeldAttempts()
    held.add(("f", 1, 1), "a")
    held.add(("g", 1, 1), "b")
    assert held.adopt("c") == []
    held.orphan("a")
    assert held.adopt("b") == [("f", 1, 1)]
    assert held.adopt("c") == []
    assert held.split([("f", 1, 1), ("x", 1, 1)], "c") == ([("f", 1, 1)], [("x", 1, 1)])
    held.orphan("b")
    assert held.adopt("d") == [("g", 1, 1)]
    held.remove(("g", 1, 1))
    held.remove(("g", 1, 1))
    held.orphan("d")
    assert held.adopt("e") == []
    await trio.sleep(2)
    assert held.up_ms == 2000
