"""Workers on another gRPC implementation (grpcio), as those in Go and Java are: well-behaved and not."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
from pathlib import Path

import grpc
import pytest

pytestmark = pytest.mark.real

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def stubs(tmp_path_factory):
    """Messages and stubs that grpcio's own generator makes from the contract's proto."""
    folder = tmp_path_factory.mktemp("stubs")
    pytest.importorskip("grpc_tools", reason="needs grpcio-tools (the dependency group proto)")
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT / 'proto'}", f"--grpc_python_out={folder}"]
    subprocess.run([*command, f"--python_out={folder}", "action_service.proto"], check=True, cwd=ROOT / "proto")
    sys.path.insert(0, str(folder))
    try:
        import action_service_pb2
        import action_service_pb2_grpc
    finally:
        sys.path.remove(str(folder))
    return action_service_pb2, action_service_pb2_grpc


@pytest.fixture
def server(orchy_server):
    return orchy_server().start()


@pytest.fixture
def worker(server, stubs):
    with grpc.insecure_channel(server.grpc) as channel:
        yield stubs[1].ActionServiceStub(channel)


WORKFLOW = {
    "name": "two",
    "rootAction": 1,
    "actions": [
        {"id": 1, "type": "user", "name": "first", "parameters": {"n": "{$.input.n}"}, "next": {"default": [2]}},
        {"id": 2, "type": "user", "name": "second", "parameters": {"got": "{$.1.output}"}},
    ],
}


def poll(worker, pb, name, count=10, wait_millis=5_000):
    return list(worker.Poll(pb.ActionPollRequest(actionType=name, batchSize=count, waitMillis=wait_millis)).actions)


def result(pb, action, **fields):
    """A result as existing workers send it: without actionName."""
    return pb.ActionResult(
        workflowName=action.workflowName,
        flowId=action.flowId,
        actionId=action.actionId,
        retryCount=action.retryCount,
        **fields,
    )


def start(server, n=1):
    server.post("/workflow", WORKFLOW)
    return server.post("/flow/execute", {"name": "two", "input": {"n": n}})["flowId"]


def types_of(server, flow_id):
    return [line["type"] for line in server.get(f"/flow/{flow_id}/history")["history"]]


def test_a_flow_is_completed(server, worker, stubs):
    pb = stubs[0]
    definition = pb.ActionDefinition(name="first", retryCount=3, retryPolicy="FIXED", timeoutSeconds=7)
    assert worker.SaveActionDefinition(definition).status
    flow_id = start(server, n=41)
    (first,) = poll(worker, pb, "first")
    assert (first.workflowName, first.flowId, first.actionId, first.actionName) == ("two", flow_id, 1, "first")
    assert (first.retryCount, first.type, first.timeoutSeconds) == (1, pb.Action.USER, 7)
    assert first.data["n"].number_value == 41
    answer = result(pb, first)
    answer.data["whole"].number_value = 2.0
    answer.data["half"].number_value = 0.5
    answer.data["list"].list_value.values.add().string_value = "x"
    assert worker.Push(answer).status
    (second,) = poll(worker, pb, "second")
    assert worker.Push(result(pb, second)).status
    flow = server.get(f"/flow/{flow_id}")
    assert flow["state"] == "COMPLETED"
    assert flow["data"]["1"]["output"] == {"whole": 2, "half": 0.5, "list": ["x"]}
    assert isinstance(flow["data"]["1"]["output"]["whole"], int)


def test_a_result_counts_once_however_often_it_is_pushed(server, worker, stubs):
    pb = stubs[0]
    flow_id = start(server)
    (first,) = poll(worker, pb, "first")
    assert worker.Push(result(pb, first)).status
    before = server.get(f"/flow/{flow_id}/history")
    assert worker.Push(result(pb, first)).status
    assert server.get(f"/flow/{flow_id}/history") == before
    (second,) = poll(worker, pb, "second")
    assert poll(worker, pb, "second", wait_millis=0) == []
    assert worker.Push(result(pb, second)).status
    assert worker.Push(result(pb, second)).status
    assert types_of(server, flow_id).count("completed") == 2


def test_a_late_result_changes_nothing_and_is_recorded(server, worker, stubs, wait_for):
    pb = stubs[0]
    worker.SaveActionDefinition(pb.ActionDefinition(name="first", retryCount=2, timeoutSeconds=1))
    flow_id = start(server)
    (attempt_1,) = poll(worker, pb, "first")
    wait_for(lambda: "timedOut" in types_of(server, flow_id))
    (attempt_2,) = poll(worker, pb, "first")
    assert attempt_2.retryCount == 2
    assert worker.Push(result(pb, attempt_1)).status
    assert types_of(server, flow_id)[-1] == "late"
    assert server.get(f"/flow/{flow_id}")["completedActions"] == []
    assert worker.Push(result(pb, attempt_2)).status
    assert server.get(f"/flow/{flow_id}")["completedActions"] == [1]
    server.post("/flow/cancel", {"name": "two", "flowId": flow_id})
    late = result(pb, attempt_2)
    late.actionId = 2
    late.retryCount = 1
    assert worker.Push(late).status
    assert types_of(server, flow_id)[-1] == "late"


def test_a_failure_is_retried_and_then_fails_the_flow_with_its_reason(server, worker, stubs):
    pb = stubs[0]
    worker.SaveActionDefinition(pb.ActionDefinition(name="first", retryCount=2))
    flow_id = start(server)
    for attempt in (1, 2):
        (action,) = poll(worker, pb, "first")
        assert action.retryCount == attempt
        assert worker.Push(result(pb, action, status=pb.ActionResult.FAIL, error="no such user")).status
    flow = server.get(f"/flow/{flow_id}")
    assert flow["state"] == "FAILED"
    assert "first" in flow["error"]
    assert "no such user" in flow["error"]


def test_a_result_for_an_unknown_flow_is_refused(worker, stubs):
    pb = stubs[0]
    assert not worker.Push(pb.ActionResult(flowId="nobody", actionId=1, retryCount=1)).status


@pytest.mark.parametrize(
    ("call", "message", "words"),
    [
        ("Push", {"actionId": 1}, "flowId"),
        ("Poll", {}, "actionType"),
        ("SaveActionDefinition", {"name": "", "retryPolicy": "SOMETIMES"}, "retry_policy"),
    ],
)
def test_bad_input_is_refused_with_the_reason(worker, stubs, call, message, words):
    pb = stubs[0]
    kind = {"Push": pb.ActionResult, "Poll": pb.ActionPollRequest, "SaveActionDefinition": pb.ActionDefinition}[call]
    with pytest.raises(grpc.RpcError) as caught:
        getattr(worker, call)(kind(**message))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert words in caught.value.details()


def test_a_result_for_an_unknown_action_is_refused(server, worker, stubs):
    pb = stubs[0]
    flow_id = start(server)
    with pytest.raises(grpc.RpcError) as caught:
        worker.Push(pb.ActionResult(flowId=flow_id, actionId=77, retryCount=1))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_number_that_json_lacks_is_refused_and_the_attempt_goes_on(server, worker, stubs):
    pb = stubs[0]
    start(server)
    (first,) = poll(worker, pb, "first")
    bad = result(pb, first)
    bad.data["x"].number_value = float("nan")
    with pytest.raises(grpc.RpcError) as caught:
        worker.Push(bad)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert worker.Push(result(pb, first)).status


def test_a_held_poll_that_is_cancelled_takes_no_work(server, worker, stubs, wait_for):
    pb = stubs[0]
    held = worker.Poll.future(pb.ActionPollRequest(actionType="first", batchSize=1, waitMillis=60_000))
    wait_for(lambda: "orchy_polls_waiting 1.0" in metrics(server))
    held.cancel()
    wait_for(lambda: "orchy_polls_waiting 0.0" in metrics(server))
    start(server)
    assert len(poll(worker, pb, "first")) == 1


def test_a_deadline_ends_a_held_poll(server, worker, stubs, wait_for):
    pb = stubs[0]
    with pytest.raises(grpc.RpcError) as caught:
        worker.Poll(pb.ActionPollRequest(actionType="first", waitMillis=60_000), timeout=0.2)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    wait_for(lambda: "orchy_polls_waiting 0.0" in metrics(server))


def test_a_compressed_call_is_answered_rather_than_left_hanging(server, stubs):
    pb = stubs[0]
    with grpc.insecure_channel(server.grpc, compression=grpc.Compression.Gzip) as channel:
        stub = stubs[1].ActionServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Poll(pb.ActionPollRequest(actionType="first" * 20), timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_too_large_a_message_is_answered_rather_than_left_hanging(worker, stubs):
    pb = stubs[0]
    huge = pb.ActionResult(flowId="f", actionId=1, retryCount=1, error="x" * (11 * 2**20))
    with pytest.raises(grpc.RpcError) as caught:
        worker.Push(huge, timeout=20)
    assert caught.value.code() in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE)
    assert worker.GetServers(pb.GetServersRequest()).servers


def test_unknown_methods_and_malformed_messages(server):
    with grpc.insecure_channel(server.grpc) as channel:
        for method, code in [
            ("/ActionService/Nope", grpc.StatusCode.UNIMPLEMENTED),
            ("/Nope/Poll", grpc.StatusCode.UNIMPLEMENTED),
            ("/ActionService/Push", grpc.StatusCode.INVALID_ARGUMENT),
        ]:
            call = channel.unary_unary(method, request_serializer=bytes, response_deserializer=bytes)
            with pytest.raises(grpc.RpcError) as caught:
                call(b"\xff\xff\xff\x00garbage", timeout=10)
            assert caught.value.code() is code


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        os.urandom(1_000),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + os.urandom(1_000),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + struct.pack(">I", 0xFFFFFF)[1:] + b"\x00\x00" + b"\0" * 4,
    ],
    ids=["http/1", "noise", "noise after the preface", "a frame that is too large"],
)
def test_garbage_closes_the_connection(server, worker, stubs, garbage):
    with socket.create_connection(("127.0.0.1", server.grpc_port), timeout=20) as peer:
        peer.sendall(garbage)
        peer.shutdown(socket.SHUT_WR)
        try:
            while peer.recv(65_536):
                pass
        except ConnectionResetError:
            pass
    assert worker.GetServers(stubs[0].GetServersRequest()).servers


def test_servers_and_health(server, worker, stubs):
    (listed,) = worker.GetServers(stubs[0].GetServersRequest()).servers
    assert listed.rpc_addr == server.grpc
    from orchy.rpc.generated import health_pb2 as health

    with grpc.insecure_channel(server.grpc) as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health.HealthCheckRequest.SerializeToString,
            response_deserializer=health.HealthCheckResponse.FromString,
        )
        for service in ("", "ActionService"):
            assert check(health.HealthCheckRequest(service=service)).status == health.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as caught:
            check(health.HealthCheckRequest(service="nope"))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        watch = channel.unary_stream(
            "/grpc.health.v1.Health/Watch",
            request_serializer=health.HealthCheckRequest.SerializeToString,
            response_deserializer=health.HealthCheckResponse.FromString,
        )
        told = watch(health.HealthCheckRequest())
        assert next(told).status == health.HealthCheckResponse.SERVING
        told.cancel()


def test_a_waiting_poll_is_answered_when_the_server_stops(server, worker, stubs, wait_for):
    pb = stubs[0]
    held = worker.Poll.future(pb.ActionPollRequest(actionType="first", waitMillis=60_000))
    wait_for(lambda: "orchy_polls_waiting 1.0" in metrics(server))
    assert server.stop() == 0
    assert list(held.result(timeout=10).actions) == []


def metrics(server):
    import urllib.request

    with urllib.request.urlopen(f"http://127.0.0.1:{server.http_port}/metrics", timeout=10) as response:
        return response.read().decode()
