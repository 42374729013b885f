"""Attacks on the REST port: other protocols, endless bodies, idle connections, requests of foreign web pages."""

from __future__ import annotations

import http.client
import json
import resource
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress

from tests.attacks.harness import Target, attack
from tests.conftest import OrchyServer

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
JSON = "Content-Type: application/json"
WORKFLOW = {"name": "stolen", "rootAction": 1, "actions": [{"id": 1, "type": "user", "name": "a"}]}
ANSWER_SECONDS = 30.0
#: How many lines an attack may leave in the log, whatever its size.
LOG_LINES_MAX = 60


@contextmanager
def connected(node: OrchyServer) -> Iterator[socket.socket]:
    """A connection to the REST port."""
    with socket.create_connection(("127.0.0.1", node.http_port), ANSWER_SECONDS) as connection:
        yield connection


def exchange(node: OrchyServer, *parts: bytes) -> bytes:
    """The whole answer to these bytes: until the node closes, or is silent for a second."""
    with connected(node) as connection:
        with suppress(OSError):
            for part in parts:
                connection.sendall(part)
        return read_all(connection)


def read_all(connection: socket.socket) -> bytes:
    """Read to the end, or to a second of silence after the first bytes."""
    answer = b""
    with suppress(OSError):
        while part := connection.recv(65_536):
            answer += part
            connection.settimeout(1.0)
    return answer


def status_of(answer: bytes) -> int:
    """The status of an HTTP/1.1 answer; 0: there is none."""
    return int(answer.split()[1]) if answer.startswith(b"HTTP/1.1 ") else 0


def ask(node: OrchyServer, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    """A request with just these headers; `_` in their names stands for `-`."""
    connection = http.client.HTTPConnection("127.0.0.1", node.http_port, timeout=ANSWER_SECONDS)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders(body)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def h2_frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """A frame of HTTP/2."""
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def h2_headers(path: bytes, method: bytes = b"GET") -> bytes:
    """A request's header block without Huffman coding or an index."""
    fields = [(b":method", method), (b":scheme", b"http"), (b":path", path), (b":authority", b"localhost")]
    return b"".join(b"\x00" + bytes([len(n)]) + n + bytes([len(v)]) + v for n, v in fields)


@attack("upgrades to HTTP/2 (`Upgrade: h2c`) with settings that can't be read")
def rest_h2c_upgrade(target: Target) -> str:
    values = ["A", "AAAA", "AAT_____", "", "!!!!", "AAMAAABkAARAAAAAAAIAAAAA", "A" * 60_000]
    for value in values:
        upgrade = f"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: {value}\r\n"
        head = f"GET /health/live HTTP/1.1\r\nHost: localhost\r\n{upgrade}\r\n"
        answer = exchange(target.node, head.encode(), PREFACE + SETTINGS)
        assert status_of(answer) not in (0, 101), f"{value[:20]}: {answer[:200]!r}"
    return f"{len(values)} upgrades, each declined over HTTP/1.1"


@attack("HTTP/2 with prior knowledge: noise, pseudo-headers with byte 0xff, 1,002 PRIORITY frames")
def rest_h2_prior_knowledge(target: Target) -> str:
    weird_path = h2_frame(1, 5, 1, h2_headers(b"/\xff"))
    weird_method = h2_frame(1, 5, 1, h2_headers(b"/", b"G\xff"))
    priorities = b"".join(h2_frame(2, 0, 2 * number + 1, b"\x00\x00\x00\x00\x10") for number in range(1_002))
    sent = [weird_path, weird_method, priorities, b"\xff" * 500, h2_frame(1, 5, 1, h2_headers(b"/health/live"))]
    for frames in sent:
        answer = exchange(target.node, PREFACE + SETTINGS + frames)
        assert status_of(answer) == 400, answer[:200]
        assert b"--grpc-port" in answer, answer[:500]
    return f"{len(sent)} connections, each told in HTTP/1.1 which port speaks gRPC"


@attack("200 WebSocket upgrades")
def rest_websockets(target: Target) -> str:
    before = target.log.count("\n")
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    key = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    head = b"GET /flow HTTP/1.1\r\nHost: localhost\r\n" + upgrade + key + b"\r\n"
    for _ in range(200):
        with connected(target.node) as connection:
            connection.sendall(head)
            assert status_of(connection.recv(65_536)) == 400
    lines = target.log.count("\n") - before
    assert lines <= LOG_LINES_MAX, f"{lines} lines were logged"
    return f"all refused, {lines} lines of log"


@attack("TLS, gossip, Redis and noise at the REST port, 100 connections of each")
def rest_other_protocols(target: Target) -> str:
    before = target.log.count("\n")
    noises = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x07" * 500,
        b"\x00\x00\x10\x00half a frame of the gossip",
        b"*1\r\n$4\r\nPING\r\n\r\n",
        b"\xff" * 5_000,
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /%00%ff%0a HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ]
    for noise in noises:
        for _ in range(100):
            with connected(target.node) as connection, suppress(OSError):
                connection.sendall(noise)
                connection.recv(65_536)
    lines = target.log.count("\n") - before
    assert lines <= LOG_LINES_MAX, f"{lines} lines were logged"
    return f"{100 * len(noises)} connections ended, {lines} lines of log"


def chunks(megabytes: int) -> Iterator[bytes]:
    """A chunked body of this many MiB."""
    for _ in range(megabytes):
        yield b"100000\r\n" + b" " * 2**20 + b"\r\n"
    yield b"0\r\n\r\n"


def flood(node: OrchyServer, head: str, parts: Iterable[bytes]) -> tuple[bytes, int]:
    """Send as much of a request as the node takes; returns its answer and the bytes sent."""
    sent = 0
    with connected(node) as connection:
        connection.sendall(head.encode())
        with suppress(OSError):
            for part in parts:
                connection.sendall(part)
                sent += len(part)
        return read_all(connection), sent


@attack("300 MB in chunks behind `Content-Length: 4`", memory_mb_max=60)
def rest_length_and_chunks(target: Target) -> str:
    for path in ("/flow/execute", "/workflow"):
        lengths = "Content-Length: 4\r\nTransfer-Encoding: chunked"
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{JSON}\r\n{lengths}\r\n\r\n"
        _, sent = flood(target.node, head, chunks(300))
        answer = exchange(target.node, head.encode())
        assert status_of(answer) == 400, answer[:200]
    return f"400; {sent / 1e6:.0f} MB taken off the wire and dropped"


@attack("bodies of 30 MB by clients that read nothing before they have sent all", memory_mb_max=60)
def rest_large_bodies(target: Target) -> str:
    for path in ("/flow/execute", "/workflow"):
        start = f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{JSON}\r\n"
        for head, body in [
            (f"{start}Content-Length: {30 * 2**20}\r\n\r\n", [b" " * 2**20] * 30),
            (f"{start}Transfer-Encoding: chunked\r\n\r\n", chunks(30)),
        ]:
            answer, sent = flood(target.node, head, body)
            assert status_of(answer) == 413, f"{sent:,} bytes were sent, then came {answer[:200]!r}"
            assert b"--body-limit-bytes" in answer
    return "413 is read by each of them"


@attack("40 bodies of 9 MB whose ends never come", memory_mb_max=250)
def rest_bodies_that_stay(target: Target) -> str:
    head = f"POST /workflow HTTP/1.1\r\nHost: localhost\r\n{JSON}\r\nContent-Length: 10000000\r\n\r\n".encode()
    with ExitStack() as stack:
        for _ in range(40):
            connection = stack.enter_context(connected(target.node))
            with suppress(OSError):
                connection.sendall(head)
                for _ in range(9):
                    connection.sendall(b" " * 1_000_000)
        status, _ = ask(
            target.node, "POST", "/workflow/validate", b"{}", Host="localhost", Content_Type="application/json"
        )
    assert status == 200, status
    return "360 MB came; others' bodies are taken"


@attack("bodies in chunks of one byte on 20 connections", memory_mb_max=60)
def rest_tiny_chunks(target: Target) -> str:
    head = f"POST /workflow HTTP/1.1\r\nHost: localhost\r\n{JSON}\r\nTransfer-Encoding: chunked\r\n\r\n"
    statuses = {status_of(flood(target.node, head, [b"1\r\n \r\n" * 10_000] * 40)[0]) for _ in range(20)}
    assert statuses == {400}, statuses
    return "each refused"


@attack("bodies of 10 MB that are millions of values, sound and broken")
def rest_many_values(target: Target) -> str:
    many = [b"[],", b"{},", b"1,", b'"",', b'"a",[1],', b'{"a":1},']
    bodies = [
        b'{"name": "w", "input": [' + part * (9_900_000 // len(part)) + end for part in many for end in (b"1]}", b"x")
    ]
    headers = {"Host": "localhost", "Content_Type": "application/json"}
    for body in bodies:
        for path in ("/flow/execute", "/workflow/validate"):
            status, _ = ask(target.node, "POST", path, body, **headers)
            assert status == 413, f"{path} {body[:40]!r}: {status}"
    text = json.dumps({"name": "w", "input": "a, b, [c]; " * 800_000}).encode()
    assert ask(target.node, "POST", "/flow/execute", text, **headers)[0] == 404  # long, but within the limit
    return f"{2 * len(bodies)} refused before they were read"


@attack("60 request heads that dribble, a byte each 0.3 s")
def rest_dribbled_heads(target: Target) -> str:
    began = time.monotonic()
    with ExitStack() as stack:
        left = [stack.enter_context(connected(target.node)) for _ in range(60)]
        for connection in left:
            connection.setblocking(False)
            connection.sendall(b"GET /health/live HTTP/1.1\r\nX: ")
        while left and time.monotonic() - began < 30:
            time.sleep(0.3)
            for connection in list(left):
                try:
                    connection.sendall(b"x")
                    if status_of(connection.recv(65_536)) == 408:
                        left.remove(connection)
                except BlockingIOError:
                    pass
                except OSError:
                    left.remove(connection)
        took = time.monotonic() - began
    assert not left, f"{len(left)} are still there after {took:.0f} s"
    return f"all cut within {took:.0f} s"


@attack("a page in a browser: starts as text/plain, foreign Origin, DNS rebinding")
def rest_foreign_page(target: Target) -> str:
    node, definition = target.node, json.dumps(WORKFLOW).encode()
    here, rebound = {"Host": f"localhost:{node.http_port}"}, {"Host": f"rebound.evil.example:{node.http_port}"}
    kind, text = {"Content_Type": "application/json"}, {"Content_Type": "text/plain;charset=UTF-8"}
    tries: dict[int, list[tuple[str, str, bytes | None, dict[str, str]]]] = {
        415: [("POST", "/workflow", definition, here | text), ("POST", "/flow/execute", definition, here | text)],
        403: [
            ("POST", "/workflow", definition, here | kind | {"Origin": "http://evil.example"}),
            ("POST", "/workflow", definition, here | kind | {"Origin": "null"}),
            ("POST", "/flow/cancel", b"{}", here | kind | {"Sec_Fetch_Site": "cross-site"}),
            ("GET", "/flow", None, here | {"Sec_Fetch_Site": "same-site"}),
        ],
        421: [("GET", "/flow", None, rebound), ("POST", "/workflow", definition, rebound | kind)],
    }
    for wanted, requests in tries.items():
        for method, path, body, headers in requests:
            status, answer = ask(node, method, path, body, **headers)
            assert status == wanted, f"{method} {path} {headers}: {status} {answer!r}"
            assert set(json.loads(answer)) == {"error", "details"}
    assert node.get("/workflow") == {"workflows": []}
    return "each refused, nothing was saved"


@attack("400 half-open connections where 256 files may be open")
def rest_half_open_connections(target: Target) -> str:
    node = target.node
    assert node.process is not None
    resource.prlimit(node.process.pid, resource.RLIMIT_NOFILE, (256, 256))
    before = target.log.count("\n")
    served = 0
    with ExitStack() as stack:
        for number in range(400):
            connection = stack.enter_context(connected(node))
            with suppress(OSError):
                connection.sendall(
                    b"POST /flow/execute HTTP/1.1\r\nHost: localhost\r\nContent-Le" if number % 2 else b""
                )
            if number % 20 == 0:
                began = time.monotonic()
                assert node.get("/health/ready")["ready"]
                assert time.monotonic() - began < 5
                served += 1
        node.post("/workflow", WORKFLOW)
        assert node.get("/cluster")["members"]
    lines = target.log.count("\n") - before
    assert lines <= LOG_LINES_MAX, f"{lines} lines were logged"
    return f"{served} of {served} others served meanwhile"
