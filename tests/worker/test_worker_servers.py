"""Servers come, go, die and come back; a worker finds them all, and its results always find one."""

from __future__ import annotations

import logging
import socket

import attrs
import pytest
import trio

from orchy.rpc.generated import action_service_pb2 as pb
from orchy.rpc.grpc.channel import ConnectionLost, open_channel
from orchy.rpc.grpc.framing import Code, Status
from orchy.worker import Worker
from orchy.worker.parameters import Parameters
from tests.worker.conftest import HURRIED


def idle_worker(*addresses: str, parameters: Parameters = HURRIED) -> Worker:
    worker = Worker(*addresses, _parameters=parameters)
    worker.action("act", poll_interval_seconds=0.05, threads=8)(lambda data: {})
    return worker


async def test_servers_that_join_are_polled(start_server, run_worker, until):
    first = await start_server()
    run_worker(idle_worker(first.address))
    await until(lambda: first.script.polling == 1)
    second = await start_server()
    await until(lambda: second.script.polling == 1)
    assert [definition.name for definition in second.script.definitions] == ["act"]
    second.script.put("act")
    await until(lambda: len(first.script.results) + len(second.script.results) == 1)


async def test_a_server_that_left_is_forgotten_but_never_a_given_one(start_server, run_worker, until, caplog):
    caplog.set_level(logging.INFO)
    first, second = await start_server(), await start_server()
    run_worker(idle_worker(first.address))
    await until(lambda: first.script.polling == 1 and second.script.polling == 1)
    first.script.listed.remove(second.address)
    second.kill()
    await until(lambda: f"a server left: {second.address}" in caplog.text)
    first.script.listed.remove(first.address)
    first.kill()
    await until(lambda: f"can't work with {first.address}" in caplog.text)
    await first.start()
    await until(lambda: first.script.polling == 1)
    assert f"a server left: {first.address}" not in caplog.text


async def test_a_worker_that_comes_before_its_server_waits_and_says_so_once(start_server, run_worker, until, caplog):
    site = await start_server()
    site.kill()
    await until(lambda: site.scope.cancelled_caught)
    run_worker(idle_worker(site.address))
    await until(lambda: "can't work with" in caplog.text)
    await trio.sleep(0.3)
    assert caplog.text.count("can't work with") == 1
    await site.start()
    await until(lambda: site.script.polling == 1)


async def test_a_server_that_comes_back_without_its_memory_is_told_again(start_server, run_worker, until):
    site = await start_server()
    run_worker(idle_worker(site.address))
    await until(lambda: site.script.polling == 1)
    site.kill()
    site.script.definitions.clear()
    await until(lambda: site.script.polling == 0 and site.scope.cancelled_caught)
    await site.start()
    await until(lambda: site.script.polling == 1)
    assert [definition.name for definition in site.script.definitions] == ["act"]


async def test_a_result_goes_to_another_server_when_its_own_is_dead(start_server, run_worker, until):
    first, second = await start_server(), await start_server()
    begun, go_on = trio.Event(), trio.Event()
    worker = Worker(first.address, _parameters=HURRIED)

    @worker.action("act")
    async def act(data):
        begun.set()
        await go_on.wait()
        return {"n": 1}

    first.script.put("act")
    run_worker(worker)
    await until(begun.is_set)
    await until(lambda: second.script.polling == 1)
    first.kill()
    go_on.set()
    await until(lambda: len(second.script.results) == 1)


async def test_a_result_goes_to_another_server_when_one_refuses_or_does_not_answer(start_server, run_worker, until):
    first, second, third = [await start_server() for _ in range(3)]
    first.script.refusal = Status(Code.UNAVAILABLE, "the store is gone")
    second.script.swallows_pushes = True
    run_worker(idle_worker(first.address, parameters=attrs.evolve(HURRIED, push_seconds=0.05)))
    await until(lambda: all(site.script.polling == 1 for site in (first, second, third)))
    for number in range(10):
        first.script.put("act", flow_id=str(number))
    await until(lambda: len(third.script.results) == 10)
    assert {result.flowId for result in third.script.results} == {str(number) for number in range(10)}
    while not (first.script.pushes and second.script.pushes):  # which one is asked first is chance
        expected = len(third.script.results) + 1
        first.script.put("act", flow_id="one more")
        await until(lambda expected=expected: len(third.script.results) == expected)


async def test_a_result_waits_for_the_only_server_to_come_back(start_server, run_worker, until):
    site = await start_server()
    begun, go_on = trio.Event(), trio.Event()
    worker = Worker(site.address, _parameters=HURRIED)

    @worker.action("act")
    async def act(data):
        begun.set()
        await go_on.wait()
        return {}

    site.script.put("act")
    run_worker(worker)
    await until(begun.is_set)
    site.kill()
    await until(lambda: site.scope.cancelled_caught)
    go_on.set()
    await trio.sleep(0.2)
    await site.start()
    await until(lambda: len(site.script.results) == 1)


async def test_a_result_that_is_refused_for_good_becomes_a_failure_that_says_so(start_server, run_worker, until):
    site = await start_server()
    run_worker(idle_worker(site.address))
    refusals: list[int] = []

    async def push(message):
        await trio.lowlevel.checkpoint()
        if message.status == pb.ActionResult.SUCCESS:
            refusals.append(1)
            raise Status(Code.INVALID_ARGUMENT, "flow f has no such action")
        site.script.results.append(message)
        return pb.ActionResultPushResponse(status=True)

    site.kill()
    await until(lambda: site.scope.cancelled_caught)
    object.__setattr__(site, "script", _with_push(site.script, push))
    await site.start()
    site.script.put("act")
    await until(lambda: len(site.script.results) == 1)
    assert site.script.results[0].error == "the server refused the result: flow f has no such action"
    assert len(refusals) == 1


def _with_push(script, push):
    class Pushed(type(script)):
        async def Push(self, input_message):
            return await push(input_message)

    script.__class__ = Pushed
    return script


async def test_a_result_that_is_refused_even_as_a_failure_is_given_up_and_logged(
    start_server, run_worker, until, caplog
):
    site = await start_server()
    site.script.refusal = Status(Code.INVALID_ARGUMENT, "no, never")
    site.script.put("act", flow_id="f-77")
    run_worker(idle_worker(site.address))
    await until(lambda: "the server refused a result of flow f-77: no, never" in caplog.text)
    assert site.script.pushes == 2


async def test_a_server_that_drains_answers_its_polls_and_the_work_is_done(start_server, run_worker, until):
    first, second = await start_server(), await start_server()
    run_worker(idle_worker(first.address))
    await until(lambda: first.script.polling == 1 and second.script.polling == 1)
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(first.server.drain)
            await trio.testing.wait_all_tasks_blocked()
            first.script.put("act", flow_id="last")
    await until(lambda: [r.flowId for r in first.script.results + second.script.results] == ["last"])
    assert first.script.cut_off_polls == 0


async def test_another_name_of_a_listed_server_is_not_polled_twice(start_server, run_worker, until):
    site = await start_server()
    run_worker(idle_worker(f"localhost:{site.port}"))
    await until(lambda: site.server.connections == 2)
    await until(lambda: site.script.polling == 2 or len(site.script.polls) >= 2)
    before = len(site.script.polls)
    for number in range(20):
        site.script.put("act", flow_id=str(number))
    await until(lambda: len(site.script.results) == 20)
    await until(lambda: site.script.polling == 1)
    assert len(site.script.polls) > before


async def test_addresses_that_nobody_can_dial_do_no_harm(start_server, run_worker, until):
    site = await start_server()
    site.script.listed += ["", "nonsense", "127.0.0.1:0", "127.0.0.1:99999", "no.such.host.invalid:8099"]
    run_worker(idle_worker(site.address))
    await until(lambda: site.script.polling == 1)
    site.script.put("act")
    await until(lambda: len(site.script.results) == 1)


async def test_a_port_where_no_grpc_is_spoken_is_not_a_server():
    listener = socket.create_server(("127.0.0.1", 0))
    listeners = [trio.SocketListener(trio.socket.from_stdlib_socket(listener))]

    async def http(stream):
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, http, listeners)
        async with open_channel(f"127.0.0.1:{listener.getsockname()[1]}") as channel:
            with trio.fail_after(30), pytest.raises(ConnectionLost):
                await channel.call("ActionService/GetServers", pb.GetServersRequest(), pb.GetServersResponse)
        nursery.cancel_scope.cancel()


async def test_a_lost_connection_ends_all_its_calls(start_server, until):
    site = await start_server()
    async with open_channel(site.address) as channel, trio.open_nursery() as nursery:
        lost = []

        async def poll():
            with pytest.raises(ConnectionLost):
                await channel.call(
                    "ActionService/Poll", pb.ActionPollRequest(actionType="act", waitMillis=60_000), pb.Actions
                )
            lost.append(1)

        for _ in range(5):
            nursery.start_soon(poll)
        await until(lambda: site.script.polling == 5)
        site.kill()
        await until(lambda: len(lost) == 5)
        assert not channel.open
        with trio.fail_after(30):
            await channel.closed()
