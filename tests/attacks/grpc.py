"""Attacks on the port for workers, and on the labels of metrics at the REST port."""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from contextlib import suppress

from tests.attacks.harness import Target, attack
from tests.rpc.wire import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    block,
    frame,
    settings,
    window_update,
)

CONNECTIONS = 5
FRAMES = 300_000
CALM = 11
POLL = {":method": "POST", ":scheme": "http", ":path": "/ActionService/Poll", ":authority": "a"}
POLL |= {"te": "trailers", "content-type": "application/grpc"}
GREETING = PREFACE + settings() + frame(SETTINGS, ACK)
#: How many lines of one kind a node may log during an attack of a few seconds.
LINES_MAX = 150
#: The node must have closed the attacker's connection by then.
GIVE_UP_SECONDS = 30.0


def headers(stream: int, path: str = POLL[":path"], *, end: bool = False) -> bytes:
    """The HEADERS frame of a call."""
    return frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, block({**POLL, ":path": path}))


def flood(target: Target, *parts: bytes) -> tuple[float, int]:
    """Send all of it on one connection, and read, until the node closes it.

    Returns how many seconds that took, and the code of the GOAWAY, or -1 if a reset came first.
    """
    got = bytearray()
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", target.node.grpc_port), GIVE_UP_SECONDS) as connection:
        connection.sendall(GREETING)
        connection.setblocking(False)
        give_up_at = time.monotonic() + GIVE_UP_SECONDS
        left = memoryview(b"".join(parts))
        with suppress(ConnectionError):
            while time.monotonic() < give_up_at:
                try:
                    data = connection.recv(65_536)
                    got += data
                    if not data:
                        break
                except BlockingIOError:
                    pass
                try:
                    sent = connection.send(left[:65_536]) if left else 0
                    left = left[sent:]
                except BlockingIOError:
                    sent = 0
                if not sent:
                    time.sleep(0.001)
            else:
                raise AssertionError(f"the connection was not ended within {GIVE_UP_SECONDS:g} s")
    return time.monotonic() - began, code_of(bytes(got))


def frames_in(got: bytearray) -> list[tuple[int, bytes]]:
    """Take the complete frames out of some bytes; returns the type and payload of each."""
    found, at = [], 0
    while at + 9 <= len(got) and at + 9 + (length := int.from_bytes(got[at : at + 3], "big")) <= len(got):
        found.append((got[at + 3], bytes(got[at + 9 : at + 9 + length])))
        at += 9 + length
    del got[:at]
    return found


def code_of(got: bytes) -> int:
    """The error code of the last GOAWAY in some frames; -1: there is none."""
    codes = [int.from_bytes(payload[4:8], "big") for kind, payload in frames_in(bytearray(got)) if kind == GOAWAY]
    return codes[-1] if codes else -1


def calmed(target: Target, *parts: bytes) -> str:
    """The same attack on a few connections; each is closed, with an error code if that gets through."""
    outcomes = [flood(target, *parts) for _ in range(CONNECTIONS)]
    assert {code for _, code in outcomes} <= {CALM, -1}, f"connections were ended with {outcomes}"
    assert any(code == CALM for _, code in outcomes), "no connection was told to calm down"
    return f"{CONNECTIONS} connections, each ended within {max(seconds for seconds, _ in outcomes):.1f} s"


@attack(f"WINDOW_UPDATE, {FRAMES:,} frames: of the connection, of a stream, of one that is closed")
def window_flood(target: Target) -> str:
    whole = calmed(target, window_update(0, 1) * FRAMES)
    calmed(target, headers(1), window_update(1, 1) * FRAMES)
    calmed(target, headers(1), frame(RST_STREAM, 0, 1, b"\0\0\0\x08"), window_update(1, 1) * FRAMES)
    return whole


@attack(f"PING, SETTINGS, empty DATA and frames of no known kind, {FRAMES:,} of each")
def idle_flood(target: Target) -> str:
    said = calmed(target, frame(PING, 0, 0, b"12345678") * FRAMES)
    calmed(target, settings((4, 65_535)) * FRAMES)
    calmed(target, frame(PING, ACK, 0, b"12345678") * FRAMES)
    calmed(target, headers(1), frame(DATA, 0, 1) * FRAMES)
    calmed(target, headers(1), frame(DATA, 0, 1, b"\0") * FRAMES)
    calmed(target, frame(0xF0, 0, 0) * FRAMES)
    return said


@attack("headers: CONTINUATION without end, a table that unpacks to 3 MB, a number of 16 KiB")
def header_bombs(target: Target) -> str:
    started = frame(HEADERS, 0, 1, block(POLL))
    said = calmed(target, started, frame(CONTINUATION, 0, 1, b"\0\1a\1b") * 100_000)
    calmed(target, started, frame(CONTINUATION, 0, 1) * FRAMES)
    entry = b"\x40\x01a\x7f\xa1\x1e" + b"b" * 4_000
    bomb = frame(HEADERS, END_HEADERS, 1, block(POLL) + entry + b"\xbe" * 900)
    assert flood(target, bomb, frame(PING, ACK, 0, b"12345678") * FRAMES)[1] == CALM
    assert flood(target, frame(HEADERS, END_HEADERS, 1, b"\x7f" + b"\xff" * 16_000))[1] not in (0, 2)
    return said


@attack("streams that are opened to be reset, by the client and by the server")
def rapid_reset(target: Target) -> str:
    streams = range(1, 100_001, 2)
    reset = b"\0\0\0\x08"
    said = calmed(target, b"".join(headers(n) + frame(RST_STREAM, 0, n, reset) for n in streams))
    calmed(target, b"".join(headers(n) + window_update(n, 0) for n in streams))
    return said


@attack("garbage, HTTP/1.1 and TLS at the port for workers without TLS, 600 connections")
def strangers(target: Target) -> str:
    address = ("127.0.0.1", target.node.grpc_port)
    context = ssl.create_default_context()
    for number in range(200):
        connection = http.client.HTTPConnection(*address, timeout=GIVE_UP_SECONDS)
        connection.request("GET", "/flow")
        response = connection.getresponse()
        assert response.status == 400
        assert b"port for workers" in response.read()
        connection.close()
        with socket.create_connection(address, GIVE_UP_SECONDS) as plain, suppress(ssl.SSLError, ConnectionError):
            context.wrap_socket(plain, server_hostname="localhost")
            raise AssertionError("there is TLS where there should be none")
        with socket.create_connection(address, GIVE_UP_SECONDS) as connection, suppress(ConnectionError):
            connection.sendall(bytes((number * 7 + n) % 256 for n in range(500)))
            while connection.recv(1_000):
                pass
    lines = target.log.splitlines()
    of_strangers = [line for line in lines if "port for workers" in line]
    assert of_strangers, "nobody was told of"
    assert len(of_strangers) <= 2 * LINES_MAX, f"{len(of_strangers)} lines"
    assert "Traceback" not in target.log
    return f"600 connections, {len(of_strangers)} log lines"


@attack("20,000 calls of methods that there are not")
def unimplemented(target: Target) -> str:
    calls = 20_000
    last = 2 * calls - 1
    got = bytearray()
    with socket.create_connection(("127.0.0.1", target.node.grpc_port), GIVE_UP_SECONDS) as connection:
        connection.sendall(GREETING)
        for first in range(1, last, 200):
            ids = range(first, min(first + 200, last + 1), 2)
            connection.sendall(b"".join(headers(n, f"/Nothing/{n}", end=True) for n in ids))
            answered = 0
            while answered < len(ids):
                data = connection.recv(65_536)
                assert data, "the connection was ended"
                got += data
                answered += sum(kind == HEADERS for kind, _ in frames_in(got))
    assert "Traceback" not in target.log
    return f"{calls:,} answers UNIMPLEMENTED on one connection"


@attack("1,000 odd HTTP methods at REST")
def odd_methods(target: Target) -> str:
    for number in range(1_000):
        connection = http.client.HTTPConnection("127.0.0.1", target.node.http_port, timeout=GIVE_UP_SECONDS)
        try:
            connection.request(f"ODD{number}", "/flow")
            connection.getresponse().read()
        except (http.client.HTTPException, ConnectionError):
            pass  # closed without an answer: as good
        finally:
            connection.close()
    connection = http.client.HTTPConnection("127.0.0.1", target.node.http_port, timeout=GIVE_UP_SECONDS)
    connection.request("GET", "/metrics")
    metrics = connection.getresponse().read().decode()
    connection.close()
    counts = [line for line in metrics.splitlines() if line.startswith("orchy_http_request_seconds_count")]
    assert "ODD" not in metrics
    assert len(counts) < 20
    return f"{len(counts)} counts of requests in /metrics, {len(metrics) // 1024} KiB"
