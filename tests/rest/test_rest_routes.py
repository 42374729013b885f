"""The REST API of a real server: each route, and each way to misuse it."""

from __future__ import annotations

import json
import socket

import pytest

pytestmark = pytest.mark.real

HELLO = {
    "name": "hello",
    "rootAction": 1,
    "actions": [
        {"id": 1, "type": "user", "name": "greet", "next": {"default": [2]}},
        {"id": 2, "type": "system", "name": "wait", "event": "go", "next": {"go": [], "default": []}},
    ],
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    import importlib.util
    from pathlib import Path

    spec = importlib.util.spec_from_file_location("orchy_test_processes", Path(__file__).parents[1] / "conftest.py")
    processes = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(processes)
    folder = tmp_path_factory.mktemp("rest")
    flags = ["--data-dir", str(folder / "data"), "--body-limit-bytes", "100000"]
    server = processes.OrchyServer(flags, folder / "server.log").start()
    yield server
    server.kill()


def refused(server, method, path, body=None):
    """(status, error) of a request that must fail."""
    with pytest.raises(RuntimeError) as caught:
        server.call(method, path, body)
    status, _, text = str(caught.value).partition(" ")
    answer = json.loads(text)
    assert set(answer) == {"error", "details"}
    return int(status), answer


def test_definitions_in_versions(server):
    first = server.post("/workflow", HELLO)
    assert (first["created"], first["name"], first["version"]) == (True, "hello", 1)
    assert server.post("/workflow", dict(reversed(HELLO.items())))["created"] is False
    changed = {**HELLO, "onSuccess": "NOOP"}
    assert server.post("/workflow", changed)["version"] == 2
    assert server.get("/workflow/hello")["version"] == 2
    assert "onSuccess" not in server.get("/workflow/hello?version=1")
    assert [workflow["name"] for workflow in server.get("/workflow")["workflows"]] == ["hello"]
    assert refused(server, "GET", "/workflow/hello?version=9")[0] == 404
    assert refused(server, "GET", "/workflow/hello?version=x")[0] == 400
    assert refused(server, "GET", "/workflow/nope")[0] == 404
    server.post("/workflow", {**HELLO, "name": "gone"})
    assert server.call("DELETE", "/workflow/gone")["deleted"]
    assert refused(server, "DELETE", "/workflow/gone")[0] == 404
    assert refused(server, "POST", "/flow/execute", {"name": "gone"})[0] == 404


def test_validation_reports_every_problem_with_its_place(server):
    text = b'{"name": "x",\n "rootAction": 9,\n "actions": [{"id": 1, "type": "nobody", "name": "a"}]}'
    validation = server.call("POST", "/workflow/validate", text)
    assert validation["valid"] is False
    places = {(problem["pointer"], problem["line"]) for problem in validation["errors"]}
    assert ("/rootAction", 2) in places
    assert ("/actions/0/type", 3) in places
    status, error = refused(server, "POST", "/workflow", text)
    assert status == 400
    assert len(error["details"]) == len(validation["errors"])
    broken = server.call("POST", "/workflow/validate", b'{"name":\n nope}')
    assert (broken["valid"], broken["errors"][0]["line"]) == (False, 2)
    assert server.call("POST", "/workflow/validate", json.dumps(HELLO).encode())["valid"] is True


def test_actions(server):
    definition = {
        "name": "greet",
        "retry_count": 3,
        "retry_after_seconds": 1.5,
        "retry_policy": "BACKOFF",
        "timeout_seconds": 9,
    }
    assert server.post("/action", definition) == {"created": True, "name": "greet"}
    assert server.post("/action", definition)["created"] is False
    assert server.get("/action/greet") == definition
    assert definition in server.get("/action")["actions"]
    status, error = refused(server, "POST", "/action", {"name": "", "retry_count": -1, "nope": 1})
    assert status == 400
    assert len(error["details"]) == 3
    assert server.call("DELETE", "/action/greet")["deleted"]
    assert refused(server, "GET", "/action/greet")[0] == 404


def test_a_flow_and_its_commands(server):
    server.post("/workflow", HELLO)
    start = {"name": "hello", "input": {"a": 1}, "flowId": "my-flow"}
    assert server.post("/flow/execute", start) == {"flowId": "my-flow", "created": True}
    assert server.post("/flow/execute", start) == {"flowId": "my-flow", "created": False}
    status, error = refused(server, "POST", "/flow/execute", {"name": "hello", "flowId": "my-flow"})
    assert status == 409
    assert [problem["pointer"] for problem in error["details"]] == ["/flowId", "/input"]
    flow = server.get("/flow/my-flow")
    assert (flow["state"], flow["runningActions"], flow["data"]) == ("RUNNING", [1], {"input": {"a": 1}})
    body = {"name": "hello", "flowId": "my-flow"}
    assert server.post("/flow/pause", body)["state"] == "PAUSED"
    assert server.post("/flow/resume", body)["state"] == "RUNNING"
    slip = server.post("/flow/event", {**body, "event": "Go!"})
    assert slip["delivered"] is False
    assert [warning["pointer"] for warning in slip["warnings"]] == ["/event"]
    assert "has the event 'Go!'" in slip["warnings"][0]["message"]
    event = {**body, "event": "go", "data": 1, "id": "of mine"}
    assert server.post("/flow/event", event) == {"delivered": False}
    assert server.post("/flow/event", event) == {"delivered": False, "duplicate": True}
    assert refused(server, "POST", "/flow/event", {**event, "id": "x" * 129})[0] == 400
    assert refused(server, "POST", "/flow/pause", {**body, "name": "other"})[0] == 404
    assert server.post("/flow/cancel", body)["state"] == "CANCELLED"
    assert refused(server, "POST", "/flow/resume", body)[0] == 409
    assert refused(server, "POST", "/flow/event", {**body, "event": "go"})[0] == 409
    types = [line["type"] for line in server.get("/flow/my-flow/history")["history"]]
    assert types == ["started", "scheduled", "paused", "resumed", "eventKept", "eventKept", "flowCancelled"]
    assert "my-flow" in [flow["id"] for flow in server.get("/flow?state=cancelled&name=hello")["flows"]]
    assert refused(server, "GET", "/flow/nobody")[0] == 404
    assert refused(server, "GET", "/flow/nobody/history")[0] == 404


def test_a_batch_of_starts(server):
    server.post("/workflow", {**HELLO, "name": "batched"})
    batch = [{"name": "batched", "flowId": f"batched-{number}", "input": {"n": number}} for number in range(500)]
    batch[7] = {"name": "nope"}
    batch[499] = batch[0]
    for first in (True, False):  # the second time it starts nothing
        answers = server.post("/flow/execute", batch)
        assert [answer.get("flowId") for answer in answers] == [one.get("flowId") for one in batch]
        assert (answers[7]["status"], answers[7]["details"]) == (404, [])
        assert (answers[498]["created"], answers[499]["created"]) == (first, False)
    assert server.get("/flow/batched-498")["data"] == {"input": {"n": 498}}
    assert len(server.get("/flow?name=batched&limit=500")["flows"]) == 498


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/flow/execute", b"", "JSON"),
        ("/flow/execute", b"[]", "1 to 1,000 objects"),
        ("/flow/execute", b"[" + b"{}," * 1_000 + b"{}]", "1 to 1,000 objects"),
        ("/flow/execute", b'[{"name": "hello"}, 3]', "a list of objects"),
        ("/flow/execute", b'"hello"', "object"),
        ("/flow/execute", b'{"name": 1, "x": 2}', "not valid"),
        ("/flow/execute", b'{"name": "hello", "flowId": "a b"}', "flowId"),
        ("/flow/execute", b'{"name": "hello", "version": true}', "not valid"),
        ("/flow/execute", b'{"name": "hello", "name": "hello"}', ""),
        ("/flow/execute", b"\xff\xfe", ""),
        ("/flow/execute", b"[" * 10_000, ""),
        ("/flow/event", b'{"name": "hello"}', "not valid"),
        ("/flow/pause", b"{}", "not valid"),
    ],
)
def test_bad_bodies(server, path, body, words):
    status, error = refused(server, "POST", path, body)
    assert status == 400
    assert words in error["error"]


@pytest.mark.parametrize("query", ["limit=0", "limit=501", "limit=x", "state=nope", "cursor=x", "nope=1"])
def test_bad_queries(server, query):
    assert refused(server, "GET", f"/flow?{query}")[0] == 400


def test_bad_json_has_a_place(server):
    _, error = refused(server, "POST", "/flow/execute", b'{"name": "hello",\n  "input": }')
    assert (error["details"][0]["line"], error["details"][0]["column"]) == (2, 12)


def test_routes_and_methods_that_are_not_there(server):
    assert refused(server, "GET", "/nope")[0] == 404
    assert refused(server, "POST", "/nonsense", b"{}")[0] == 404
    assert refused(server, "GET", "/static/x")[0] == 404
    assert refused(server, "PUT", "/flow/execute", b"{}")[0] == 405
    assert refused(server, "DELETE", "/flow")[0] == 405
    for method, path in [("POST", "/flow/start"), ("DELETE", "/flow/x"), ("POST", "/workflow/orders")]:
        status, error = refused(server, method, path)
        assert (status, error["error"]) == (404, f"there is no route {method} {path}; GET / lists them")


def test_a_body_that_is_too_large(server):
    assert refused(server, "POST", "/workflow", b" " * 100_001)[0] == 413
    head = b"POST /workflow HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", server.http_port), timeout=20) as peer:
        peer.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(200):  # the node takes what still comes
            peer.sendall(b"1000\r\n" + b"x" * 0x1000 + b"\r\n")
        answer = b""
        while part := peer.recv(65_536):
            answer += part
    assert b" 413 " in answer.split(b"\r\n")[0]


def test_the_node(server):
    cluster = server.get("/cluster")
    assert [member["state"] for member in cluster["members"]] == ["alive"]
    assert len(cluster["partitions"]) == 64
    assert {partition["owner"] for partition in cluster["partitions"]} == {cluster["node"]}
    assert server.get("/health/live") == {"live": True}
    assert server.get("/health/ready") == {"ready": True}
    assert "POST /flow/execute" in server.get("/")["routes"]


def test_a_flow_that_is_in_no_quarantine_is_not_released(server):
    server.post("/workflow", HELLO)
    flow_id = server.post("/flow/execute", {"name": "hello"})["flowId"]
    assert "quarantined" not in server.get(f"/flow/{flow_id}")
    assert server.get("/flow?quarantined=true")["flows"] == []
    assert flow_id in [flow["id"] for flow in server.get("/flow?quarantined=false")["flows"]]
    assert refused(server, "GET", "/flow?quarantined=perhaps")[0] == 400
    assert refused(server, "POST", "/flow/release", {"flowId": flow_id, "reason": "why not"})[0] == 409
    assert refused(server, "POST", "/flow/release", {"flowId": "nobody", "reason": "why not"})[0] == 404
    assert refused(server, "POST", "/flow/release", {"flowId": flow_id, "reason": " "})[0] == 400
    assert refused(server, "POST", "/flow/release", {"flowId": flow_id})[0] == 400


def test_a_script_that_does_not_parse_is_refused_with_its_place(server):
    action = {"id": 1, "type": "system", "name": "javascript", "expression": "let x = 1;\n$.total = ;"}
    body = json.dumps({"name": "broken", "rootAction": 1, "actions": [action]}).encode()
    status, answer = refused(server, "POST", "/workflow", body)
    assert status == 400
    (problem,) = answer["details"]
    assert problem["pointer"] == "/actions/0/expression"
    assert "(line 2, column 11 of the script)" in problem["message"]
    assert body[problem["column"] - 1 :].startswith(b';"')
    assert server.post("/workflow/validate", body)["errors"] == answer["details"]


def test_only_the_first_hundred_unknown_fields_are_reported(server):
    body = {"name": "hello", **{f"field{number}": 1 for number in range(5_000)}}
    assert len(refused(server, "POST", "/flow/execute", body)[1]["details"]) == 100
