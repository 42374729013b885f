"""A worker that knows nothing of Orchy but the proto file: gRPC's own client against the worker API."""

from __future__ import annotations

import logging
import socket
import threading
from contextlib import suppress

import grpc
import pytest
import trio

from orchy.errors import InvalidInput, NotFound, Overloaded, Problem, StartupError, StoreUnavailable, WrongState
from orchy.rpc.api.convert import encode_action
from orchy.rpc.generated import action_service_pb2 as pb
from orchy.rpc.generated import health_pb2
from orchy.rpc.grpc.limits import ServerLimits
from orchy.rpc.grpc.server import RpcServer, open_listeners

StatusCode = grpc.StatusCode


def body(action_id: int, text: str = "") -> bytes:
    return encode_action(
        workflow="w",
        flow_id=f"flow-{action_id}",
        action_id=action_id,
        name="act",
        attempt=1,
        parameters={"id": action_id, "text": text},
        timeout_seconds=5,
    )


async def test_a_poll_gets_what_there_is_up_to_its_batch(api):
    api.behind.bodies = [body(1), body(2), body(3)]
    actions = (await api.call("Poll", actionType="act", batchSize=2, workerId="w1")).actions
    assert [(a.flowId, a.actionId, a.data["id"].number_value) for a in actions] == [("flow-1", 1, 1), ("flow-2", 2, 2)]
    assert len((await api.call("Poll", actionType="act", batchSize=2)).actions) == 1
    assert len((await api.call("Poll", actionType="act", batchSize=2)).actions) == 0
    assert api.behind.polls == [("act", 2, 0.0, "w1"), ("act", 2, 0.0, ""), ("act", 2, 0.0, "")]


@pytest.mark.parametrize(
    ("batch_size", "wait_millis", "limit", "wait_seconds"),
    [(0, 0, 1, 0.0), (-5, -5, 1, 0.0), (1_000_000, 500, 100, 0.5), (10, 2_000_000_000, 10, 60.0)],
)
async def test_a_poll_can_not_ask_for_more_or_longer_than_there_is(api, batch_size, wait_millis, limit, wait_seconds):
    await api.call("Poll", actionType="act", batchSize=batch_size, waitMillis=wait_millis)
    assert api.behind.polls == [("act", limit, wait_seconds, "")]


@pytest.mark.parametrize("name", ["", "x" * 257])
async def test_a_poll_names_its_action(api, name):
    code, _ = await api.refused("Poll", actionType=name)
    assert code is StatusCode.INVALID_ARGUMENT


async def test_a_large_answer_arrives_whole(api):
    api.behind.bodies = [body(n, "x" * 30_000) for n in range(100)]
    actions = (await api.call("Poll", actionType="act", batchSize=100)).actions
    assert [len(action.data["text"].string_value) for action in actions] == [30_000] * 100


async def test_a_result_without_the_actions_name_is_taken(api):
    result = pb.ActionResult(workflowName="w", flowId="f", actionId=2, retryCount=1)
    result.data["user"].struct_value.fields["age"].number_value = 42
    fields = {descriptor.name: value for descriptor, value in result.ListFields()}
    assert (await api.call("Push", **fields)).status is True
    taken = api.behind.results[0]
    assert (taken.flow_id, taken.action_id, taken.attempt, taken.output) == ("f", 2, 1, {"user": {"age": 42}})


async def test_a_result_for_a_flow_that_is_not_there_is_not_taken(api):
    api.behind.verdict = None
    assert (await api.call("Push", flowId="f")).status is False


async def test_a_definition_is_saved(api):
    reply = await api.call("SaveActionDefinition", name="act", retryCount=3, retryPolicy="BACKOFF", timeoutSeconds=7)
    assert reply.status is True
    assert [(d.name, d.retry_count, d.timeout_seconds) for d in api.behind.definitions] == [("act", 3, 7)]
    code, text = await api.refused("SaveActionDefinition", name="act", retryPolicy="SOMETIMES", retryCount=-1)
    assert code is StatusCode.INVALID_ARGUMENT
    assert "SOMETIMES" in text
    assert "retry_count" in text


async def test_the_servers_are_listed(api):
    servers = (await api.call("GetServers")).servers
    assert [(s.id, s.rpc_addr) for s in servers] == [("a", "127.0.0.1:1"), ("b", "127.0.0.1:2")]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidInput("it is wrong", [Problem("too long", "/name")]), StatusCode.INVALID_ARGUMENT),
        (NotFound("it is not there"), StatusCode.NOT_FOUND),
        (WrongState("it is over"), StatusCode.FAILED_PRECONDITION),
        (Overloaded("there is too much to do"), StatusCode.UNAVAILABLE),
        (StoreUnavailable("the store is gone"), StatusCode.UNAVAILABLE),
    ],
)
async def test_our_errors_are_statuses_with_their_sentence(api, error, code):
    api.behind.error = error
    for name, fields in (("Push", {"flowId": "f"}), ("Poll", {"actionType": "act"})):
        got_code, text = await api.refused(name, **fields)
        assert got_code is code
        assert text.startswith(str(error))


async def test_an_error_that_nobody_foresaw_is_logged_and_not_told(api, caplog):
    api.behind.error = KeyError("secret-ä")
    with caplog.at_level(logging.ERROR):
        code, text = await api.refused("Push", flowId="f")
    assert code is StatusCode.INTERNAL
    assert "secret" not in text
    assert "KeyError" not in text
    assert "secret-ä" in caplog.text
    assert "Traceback" in caplog.text
    api.behind.error = None
    assert (await api.call("Push", flowId="f")).status is True


async def test_a_sentence_in_any_script_arrives_as_it_is(api):
    api.behind.error = NotFound("es fehlt: 流程 ✓ 100%\nnächste Zeile")
    assert (await api.refused("Push", flowId="f"))[1] == "es fehlt: 流程 ✓ 100%\nnächste Zeile"


async def test_methods_and_services_that_are_not_there_are_unimplemented(api):
    def call(path: str) -> None:
        with api.channel() as channel:
            channel.unary_unary(path)(b"", timeout=10)

    for path in ("/ActionService/Nothing", "/Nothing/Poll", "/x", "/ActionService"):
        with pytest.raises(grpc.RpcError) as caught:
            await trio.to_thread.run_sync(call, path)
        assert caught.value.code() is StatusCode.UNIMPLEMENTED, path


async def test_bytes_that_are_no_message_are_an_invalid_argument(api):
    def call() -> None:
        with api.channel() as channel:
            channel.unary_unary("/ActionService/Push")(b"\xff\xff\xff garbage", timeout=10)

    with pytest.raises(grpc.RpcError) as caught:
        await trio.to_thread.run_sync(call)
    assert caught.value.code() is StatusCode.INVALID_ARGUMENT


async def test_a_compressed_call_is_refused_and_the_connection_lives_on(api):
    def calls() -> tuple[grpc.StatusCode, bool]:
        with api.channel() as channel:
            push = channel.unary_unary("/ActionService/Push", pb.ActionResult.SerializeToString)
            with pytest.raises(grpc.RpcError) as caught:
                push(pb.ActionResult(flowId="f" * 5000), timeout=10, compression=grpc.Compression.Gzip)
            reply = push(pb.ActionResult(flowId="f"), timeout=10)
            return caught.value.code(), pb.ActionResultPushResponse.FromString(reply).status

    assert await trio.to_thread.run_sync(calls) == (StatusCode.UNIMPLEMENTED, True)


async def test_an_oversized_message_is_refused_and_the_connection_lives_on(api):
    def calls() -> tuple[grpc.StatusCode, bool]:
        with api.channel() as channel:
            push = channel.unary_unary("/ActionService/Push", pb.ActionResult.SerializeToString)
            with pytest.raises(grpc.RpcError) as caught:
                push(pb.ActionResult(flowId="f", error="x" * (20 * 2**20)), timeout=20)
            reply = push(pb.ActionResult(flowId="f", error="x" * (5 * 2**20)), timeout=20)
            return caught.value.code(), pb.ActionResultPushResponse.FromString(reply).status

    assert await trio.to_thread.run_sync(calls) == (StatusCode.RESOURCE_EXHAUSTED, True)


async def test_a_cancelled_poll_is_cancelled_here_too(api, until):
    api.behind.hold = True

    def poll_and_cancel(held: threading.Event) -> grpc.StatusCode:
        with api.channel() as channel:
            poll = channel.unary_unary("/ActionService/Poll", pb.ActionPollRequest.SerializeToString)
            future = poll.future(pb.ActionPollRequest(actionType="act", waitMillis=60_000))
            held.wait(30)
            future.cancel()
            return future.code()

    held = threading.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, poll_and_cancel, held)
        await until(lambda: api.behind.held == 1)
        held.set()
        await until(lambda: api.behind.cancelled == 1)
    assert api.behind.held == 0


async def test_a_held_poll_ends_when_its_connection_does(api, until):
    api.behind.hold = True
    stream = await trio.open_tcp_stream("127.0.0.1", api.port)
    from h2.connection import H2Connection

    http = H2Connection()
    http.initiate_connection()
    headers = {":method": "POST", ":scheme": "http", ":authority": "a", ":path": "/ActionService/Poll"}
    http.send_headers(1, [*headers.items(), ("te", "trailers"), ("content-type", "application/grpc")])
    request = pb.ActionPollRequest(actionType="act", waitMillis=60_000).SerializeToString()
    http.send_data(1, b"\0" + len(request).to_bytes(4, "big") + request, end_stream=True)
    await stream.send_all(http.data_to_send())
    await until(lambda: api.behind.held == 1)
    await stream.aclose()
    await until(lambda: api.behind.cancelled == 1)
    await until(lambda: api.server.connections == 0)


async def test_a_deadline_ends_the_call_on_both_sides(api, until):
    api.behind.hold = True
    code, _ = await api.refused("Poll", 0.2, actionType="act", waitMillis=60_000)
    assert code is StatusCode.DEADLINE_EXCEEDED
    await until(lambda: api.behind.cancelled == 1)


async def test_many_polls_wait_on_one_connection_and_all_are_answered(api, until):
    api.behind.hold = True

    def polls() -> list[int]:
        with api.channel() as channel:
            poll = channel.unary_unary(
                "/ActionService/Poll", pb.ActionPollRequest.SerializeToString, pb.Actions.FromString
            )
            request = pb.ActionPollRequest(actionType="act", batchSize=1, waitMillis=60_000)
            futures = [poll.future(request, timeout=30) for _ in range(200)]
            return [len(future.result().actions) for future in futures]

    counts: list[int] = []

    async def run() -> None:
        counts.extend(await trio.to_thread.run_sync(polls))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await until(lambda: api.behind.held == 200)
        api.behind.bodies = [body(n) for n in range(150)]
        api.behind.let_go.set()
    assert sorted(counts) == [0] * 50 + [1] * 150


async def test_the_health_is_told_and_watched(api):
    serving, not_serving = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
    assert (await api.call("Check")).status == serving
    assert (await api.call("Check", service="ActionService")).status == serving
    assert (await api.refused("Check", service="nothing"))[0] is StatusCode.NOT_FOUND

    def watch(change: threading.Event) -> list[int]:
        with api.channel() as channel:
            call = channel.unary_stream(
                "/grpc.health.v1.Health/Watch",
                health_pb2.HealthCheckRequest.SerializeToString,
                health_pb2.HealthCheckResponse.FromString,
            )
            stream = call(health_pb2.HealthCheckRequest(), timeout=30)
            first = next(stream).status
            change.set()
            return [first, next(stream).status]

    change = threading.Event()
    seen: list[int] = []

    async def run() -> None:
        seen.extend(await trio.to_thread.run_sync(watch, change))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await trio.to_thread.run_sync(change.wait, 30)
        api.behind.ready = False
    assert seen == [serving, not_serving]
    assert (await api.call("Check")).status == not_serving


async def test_a_drain_answers_what_runs_takes_nobody_in_and_ends_watchers(api, until):
    api.behind.hold = True
    answers: list[object] = []

    async def poll() -> None:
        answers.append(len((await api.call("Poll", actionType="act", batchSize=5, waitMillis=60_000)).actions))

    def watch(seen: threading.Event) -> None:
        with api.channel() as channel:
            call = channel.unary_stream("/grpc.health.v1.Health/Watch", lambda _: b"")
            with pytest.raises(grpc.RpcError) as caught:
                for _ in call(None, timeout=30):
                    seen.set()
            answers.append(caught.value.code())

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            seen = threading.Event()
            nursery.start_soon(poll)
            nursery.start_soon(trio.to_thread.run_sync, watch, seen)
            await until(lambda: api.behind.held == 1 and seen.is_set())
            drained = trio.Event()

            async def drain() -> None:
                await api.server.drain()
                drained.set()

            nursery.start_soon(drain)
            await until(lambda: api.server.connections == 1)  # the watcher's is gone
            assert not drained.is_set()
            with pytest.raises(OSError, match="all attempts to connect"):
                await trio.open_tcp_stream("127.0.0.1", api.port)
            api.behind.bodies = [body(1), body(2)]
            api.behind.let_go.set()
            await drained.wait()
    assert set(answers) == {StatusCode.UNAVAILABLE, 2}
    assert api.server.connections == 0


async def test_connections_have_a_limit(behind, until):
    server = RpcServer([], ServerLimits(connections_max=2))
    listeners, port = await open_listeners("127.0.0.1", 0, "--grpc-port")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.serve, listeners)
        kept = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(2)]
        await until(lambda: server.connections == 2)
        third = await trio.open_tcp_stream("127.0.0.1", port)
        with trio.fail_after(30):
            with suppress(trio.BrokenResourceError):  # closed either way
                assert await third.receive_some() == b""
        await kept[0].aclose()
        await until(lambda: server.connections == 1)
        nursery.cancel_scope.cancel()


async def test_a_port_that_is_taken_is_one_sentence_with_the_flag():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StartupError, match=rf"127\.0\.0\.1:{port}.*--grpc-port"):
            await open_listeners("127.0.0.1", port, "--grpc-port")


async def test_a_host_with_several_addresses_gets_one_port():
    listeners, port = await open_listeners("localhost", 0, "--grpc-port")
    assert {listener.socket.getsockname()[1] for listener in listeners} == {port}
    for listener in listeners:
        assert not listener.socket.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)
        await listener.aclose()


async def test_many_results_are_answered_each_for_itself_and_in_order(api):
    api.behind.error, api.behind.error_of = StoreUnavailable("the store is gone"), "flow-2"
    results = [
        pb.ActionResult(flowId=flow_id, actionId=1, retryCount=1) for flow_id in ("flow-1", "flow-2", "", "flow-3")
    ]
    reply = await api.call("PushAll", results=results)
    assert [(outcome.status, outcome.code) for outcome in reply.outcomes] == [
        (True, 0),
        (False, grpc.StatusCode.UNAVAILABLE.value[0]),
        (False, grpc.StatusCode.INVALID_ARGUMENT.value[0]),
        (True, 0),
    ]
    assert "the store is gone" in reply.outcomes[1].message
    assert sorted(result.flow_id for result in api.behind.results) == ["flow-1", "flow-3"]


async def test_too_many_results_are_refused_whole(api):
    results = [pb.ActionResult(flowId="flow", actionId=1, retryCount=1)] * 1_001
    assert await api.refused("PushAll", results=results) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "at most 1000 results at once",
    )
    assert api.behind.results == []
    assert list((await api.call("PushAll")).outcomes) == []


async def test_the_result_of_a_flow_that_is_gone_is_not_taken(api):
    api.behind.verdict = None
    reply = await api.call("PushAll", results=[pb.ActionResult(flowId="flow", actionId=1, retryCount=1)] * 2)
    assert [(outcome.status, outcome.code) for outcome in reply.outcomes] == [(False, 0)] * 2
