"""The REST port is sent noise: it always answers in the form of its errors, and keeps nothing of it."""

from __future__ import annotations

import http.client
import json
import socket
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.real

WORKFLOW = {
    "name": "orders",
    "rootAction": 1,
    "actions": [
        {"id": 1, "type": "user", "name": "pay", "parameters": {"a": "{$.input.a}"}, "next": {"default": [2]}},
        {"id": 2, "type": "system", "name": "switch", "expression": "{$.1.output.x}", "next": {"y": [3], "z": [4]}},
        {"id": 3, "type": "system", "name": "wait", "event": "go", "timeoutSeconds": 5, "next": {"go": [4]}},
        {"id": 4, "type": "system", "name": "javascript", "expression": "$.x = 1"},
    ],
}
BODIES = {
    "/workflow": WORKFLOW,
    "/workflow/validate": WORKFLOW,
    "/flow/execute": {"name": "orders", "input": {"a": 1}, "version": 1, "flowId": "f-1"},
    "/flow/event": {"name": "orders", "flowId": "f-1", "event": "go", "data": {"x": 1}},
    "/flow/pause": {"name": "orders", "flowId": "f-1"},
    "/flow/resume": {"name": "orders", "flowId": "f-1"},
    "/flow/cancel": {"name": "orders", "flowId": "f-1"},
}
ROUTES = [*BODIES, "/workflow/orders", "/flow", "/flow/f-1", "/flow/f-1/history", "/action", "/action/pay", "/cluster"]
ROUTES += ["/health", "/health/live", "/health/ready", "/metrics", "/"]
POSTED = b"POST /workflow HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE"]
EXAMPLES = settings(
    max_examples=250, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

numbers = st.integers() | st.floats() | st.sampled_from([0, -1, 2**31, 2**53 + 1, 10**400, 1e308])
texts = st.text(st.characters(), max_size=30) | st.sampled_from(
    ["", " ", "\x00", "$", "{$.input}", "{$..*}", "orders", "f-1", "\ud800", "a" * 3_000, "../..", "%00", "{{}}"]
)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def server(start_shared_server):
    server = start_shared_server("--body-limit-bytes", "100000")
    server.post("/workflow", WORKFLOW)
    return server


def ask(server, method, path, body=None, headers=()):
    """(status, body) of a request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=10)
    try:
        kind = {} if body is None else {"Content-Type": "application/json"}
        connection.request(method, path, body, {**kind, **dict(headers)})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def check(method, status, body):
    """It is an answer, not a crash, and an error has the form that the contract gives it."""
    assert status < 500, body
    if status >= 400 and method != "HEAD":
        answer = json.loads(body)
        assert set(answer) == {"error", "details"}
        assert answer["error"].strip()


def names(server):
    return {workflow["name"] for workflow in server.get("/workflow")["workflows"]}


@st.composite
def corrupted(draw, good):
    """A good value with something in it that is another thing, is missing, or is new."""
    if isinstance(good, dict) and good and draw(st.integers(0, 3)):
        key = draw(st.sampled_from(sorted(good)))
        match draw(st.integers(0, 3)):
            case 0:
                return {name: value for name, value in good.items() if name != key}
            case 1:
                return {**good, draw(texts): draw(values)}
            case _:
                return {**good, key: draw(corrupted(good[key]))}
    if isinstance(good, list) and good and draw(st.integers(0, 3)):
        place = draw(st.integers(0, len(good) - 1))
        return [*good[:place], draw(corrupted(good[place])), *good[place + 1 :]]
    return draw(values)


@pytest.mark.parametrize("path", BODIES)
@EXAMPLES
@given(data=st.data())
def test_corrupted_bodies(server, path, data):
    body = data.draw(corrupted(BODIES[path]))
    before = names(server) if path == "/workflow" else set()
    status, answer = ask(server, "POST", path, json.dumps(body).encode("utf-8", "surrogatepass"))
    check("POST", status, answer)
    if path == "/workflow" and status >= 400:
        assert names(server) == before


@pytest.mark.parametrize("path", BODIES)
@EXAMPLES
@given(noise=st.binary(max_size=60), place=st.integers(0, 400), keep=st.integers(0, 400))
def test_bodies_that_are_damaged_bytes(server, path, noise, place, keep):
    good = json.dumps(BODIES[path]).encode()
    status, answer = ask(server, "POST", path, good[:place] + noise + good[place + keep :])
    check("POST", status, answer)


@EXAMPLES
@given(
    method=st.sampled_from(METHODS),
    route=st.sampled_from(ROUTES),
    noise=texts,
    query=st.dictionaries(st.sampled_from(["name", "state", "limit", "cursor", "version", "x"]), texts, max_size=3),
)
def test_noise_in_paths_queries_and_methods(server, method, route, noise, query):
    encoded = quote(noise.encode("utf-8", "surrogatepass"), safe="")
    for path in (route, f"{route}/{encoded}", route.replace("orders", encoded).replace("f-1", encoded)):
        joined = "&".join(f"{name}={quote(text.encode('utf-8', 'surrogatepass'))}" for name, text in query.items())
        status, body = ask(server, method, f"{path}?{joined}" if joined else path)
        check(method, status, body)


@EXAMPLES
@given(kind=texts, encoding=st.sampled_from(["", "gzip", "utf-16", "identity"]), accept=texts)
def test_noise_in_headers(server, kind, encoding, accept):
    fields = {"Content-Type": kind, "Accept": accept, "Content-Encoding": encoding}
    clean = {name: "".join(c for c in text if 32 < ord(c) < 127)[:200] for name, text in fields.items()}
    status, body = ask(server, "POST", "/flow/execute", json.dumps(BODIES["/flow/execute"]).encode(), clean.items())
    check("POST", status, body)


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 50_000,
        b'{"a":' * 15_000,
        b'{"name": "orders", "name": "orders"}',
        b'{"name": "orders", "input": ' + b"9" * 90_000 + b"}",
        b'{"name": "orders", "input": 1e999999}',
        b'{"name": "orders", "input": NaN}',
        b'{"name": "orders", "input": "\xff\xfe"}',
        b'{"name": "orders", "input": "\\ud800"}',
        b"\xef\xbb\xbf{}",
        b"\x00" * 1_000,
        b"x" * 200_000,
    ],
    ids=lambda text: repr(text[:20]),
)
def test_bodies_that_stop_careless_parsers(server, text):
    for path in BODIES:
        status, body = ask(server, "POST", path, text)
        check("POST", status, body)
    assert server.get("/health/ready")["ready"]


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /workflow HTTP/1.1\r\n\r\n" * 20,
        POSTED + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n{}",
        POSTED + b"Content-Length: -5\r\n\r\n{}",
        POSTED + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
        POSTED + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 200_000,
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 20_000,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00" + b"\xff" * 500,
        b"\x00" * 5_000,
    ],
    ids=lambda sent: repr(sent[:24]),
)
def test_bytes_that_are_no_request(server, sent):
    """They end their own connection and no other."""
    with socket.create_connection(("127.0.0.1", server.http_port), 10) as connection:
        try:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65_536):
                pass
        except OSError:  # it may be closed already
            pass
    assert server.get("/health/ready")["ready"]
