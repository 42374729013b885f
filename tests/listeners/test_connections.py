"""Connections that send nothing, half a request, or too much: they cost little, and nothing once they are closed."""

from __future__ import annotations

import socket
import time
from contextlib import suppress

import pytest

from tests.listeners.connections import PREFACE, _files, open_many

pytestmark = pytest.mark.real
HALF = (
    b"POST /flow/execute HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
)
FRAME = bytes(range(64))


@pytest.fixture(scope="module")
def server(start_shared_server):
    return start_shared_server()


def test_300_connections_are_held_and_released(server):
    outcome = open_many(server, 300)
    assert outcome.held >= 298
    assert outcome.left <= 2


@pytest.mark.parametrize(
    ("port", "sent"),
    [
        ("http_port", b""),
        ("http_port", b"GET / HT"),
        ("http_port", HALF),
        ("grpc_port", b""),
        ("grpc_port", PREFACE),
        ("grpc_port", PREFACE + FRAME),
        ("gossip_port", b""),
        ("gossip_port", b"\x00\x00\x10\x00half a frame"),
        ("gossip_port", b"\xff" * 5_000),
    ],
)
def test_clients_that_disconnect_in_the_middle_leave_nothing_behind(server, port, sent):
    before = _files(server)
    connections = [socket.create_connection(("127.0.0.1", getattr(server, port)), 10) for _ in range(30)]
    for connection in connections:
        with suppress(ConnectionError):  # the server has closed it already
            connection.sendall(sent)
    for connection in connections:
        connection.close()
    give_up_at = time.monotonic() + 15
    while _files(server) > before and time.monotonic() < give_up_at:
        time.sleep(0.05)
    assert _files(server) <= before
    assert server.get("/health/ready")["ready"]


@pytest.mark.parametrize("port", ["http_port", "grpc_port", "gossip_port"])
def test_silent_connections_delay_no_request(server, port):
    connections = [socket.create_connection(("127.0.0.1", getattr(server, port)), 10) for _ in range(100)]
    try:
        for _ in range(20):
            assert server.get("/health/ready")["ready"]
    finally:
        for connection in connections:
            connection.close()
