"""Who knocks at the wrong door is told what is there: clients by the server, and workers by their own library."""

from __future__ import annotations

import logging
import socket
import ssl
from functools import partial

import grpc
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from orchy.rpc.generated import action_service_pb2 as pb
from orchy.rpc.grpc import sniffing
from orchy.rpc.grpc.channel import Channel, ConnectionLost, open_channel
from orchy.rpc.grpc.framing import Status
from orchy.rpc.grpc.server import RpcServer, open_listeners
from orchy.rpc.grpc.sniffing import SniffedProtocol, sniff_client
from orchy.rpc.grpc.tls import server_context
from tests.certificates import make_certificate
from tests.rpc import wire
from tests.rpc.conftest import services_of
from tests.rpc.wire import PREFACE, frames_of

HANG_SECONDS = 30.0
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"r" * 100
GOAWAY = 7


@pytest.fixture
def files(tmp_path):
    """A certificate and its key."""
    return make_certificate(tmp_path)


@pytest.fixture
async def open_server(behind, nursery):
    """Start a worker API; its port."""

    async def start(context: ssl.SSLContext | None = None) -> int:
        server = RpcServer(services_of(behind), context=context)
        listeners, port = await open_listeners("127.0.0.1", 0, "--grpc-port")
        await nursery.start(partial(server.serve, listeners))
        return port

    return start


async def answer_to(port: int, *parts: bytes) -> bytes:
    """All that comes back."""
    with trio.fail_after(HANG_SECONDS):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        answer = b""
        async with stream:
            for part in parts:
                await stream.send_all(part)
                await trio.sleep(0.01)
            async for data in stream:
                answer += data
        return answer


@pytest.mark.parametrize(
    "parts", [[GET], [GET[:1], GET[1:]], [b"POST /flow/execute HTTP/1.1\r\n\r\n"], [b"P", b"UT / "]]
)
async def test_the_workers_port_answers_http1_in_http1(open_server, caplog, until, parts):
    caplog.set_level(logging.INFO, "orchy")
    answer = await answer_to(await open_server(), *parts)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"port for workers" in body
    assert b"--http-port" in body
    await until(lambda: caplog.records)
    (record,) = caplog.records
    assert record.getMessage().startswith("127.0.0.1:")
    assert "HTTP/1.1" in record.getMessage()


async def test_the_workers_port_without_tls_says_so_to_whoever_speaks_it(open_server, caplog, until):
    answer = await answer_to(await open_server(), HELLO)
    assert not answer.startswith((b"\x15", b"\x16"))  # which a client's library calls "not TLS"
    await until(lambda: caplog.records)
    (record,) = caplog.records
    assert "speaks TLS to the port for workers, which has none" in record.getMessage()


async def test_the_workers_port_with_tls_says_so_to_http1_and_http2(open_server, files, caplog):
    port = await open_server(server_context(*files))
    answer = await answer_to(port, GET)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"speaks TLS only" in answer
    (goaway,) = frames_of(await answer_to(port, PREFACE + b"\0\0\0\4\0\0\0\0\0"))
    assert goaway[0] == GOAWAY
    assert goaway[3][4:8] == b"\0\0\0\x0c"
    assert b"speaks TLS only" in goaway[3]
    assert await answer_to(port, b"\0\1\2\3") == b""
    assert len([record for record in caplog.records if "without TLS" in record.getMessage()]) == 3


async def test_grpcs_own_client_does_not_try_a_port_with_tls_for_ever(open_server, files):
    port = await open_server(server_context(*files))

    def call() -> grpc.StatusCode:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel, pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary("/ActionService/GetServers")(b"", timeout=10)
        return caught.value.code()

    assert await trio.to_thread.run_sync(call) is grpc.StatusCode.UNAVAILABLE


async def test_a_client_of_another_protocol_that_stays_is_let_go_in_time(open_server):
    port = await open_server()
    with trio.fail_after(HANG_SECONDS):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(GET)
        with pytest.raises(trio.BrokenResourceError):
            while True:  # also one that never stops sending
                await stream.send_all(b"x" * 10_000)
                await trio.sleep(0.001)


# A worker.


async def why_not(port: int, context: ssl.SSLContext | None = None) -> str:
    """What a worker is told of a server that it can't work with."""
    with trio.fail_after(HANG_SECONDS), pytest.raises(ConnectionLost) as caught:
        async with open_channel(f"127.0.0.1:{port}", context) as channel:
            await channel.call("ActionService/GetServers", pb.GetServersRequest(), pb.GetServersResponse)
    return str(caught.value)


@pytest.fixture
async def open_saying(nursery):
    """Start a server that says something as soon as somebody says something; its port."""

    async def start(text: bytes) -> int:
        async def serve(stream: trio.SocketStream) -> None:
            await stream.receive_some()
            if text:
                await stream.send_all(text)
            await stream.send_eof()
            await trio.sleep(0.1)
            await stream.aclose()

        listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        return listeners[0].socket.getsockname()[1]

    return start


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            b"HTTP/1.1 400 Bad Request\r\ncontent-length: 12\r\n\r\nonly\x1b REST\n",
            ["speaks HTTP/1.1 and not gRPC", "REST port", "--grpc-port (8099 by default)", "It said: only  REST"],
        ),
        (b"HTTP/1.1 505 HTTP Version Not Supported\r\n\r\n", ["It said: HTTP/1.1 505 HTTP Version Not Supported"]),
        (b"\x15\x03\x01\x00\x02\x02\x46", ["speaks TLS and this worker does not", "tls=True"]),
        (b"", ["closed the connection without a word", "TLS", "--grpc-port (8099 by default)"]),
        (b"SSH-2.0-OpenSSH_9\r\n", ["does not speak gRPC", "--grpc-port"]),
        (b"-ERR unknown command\r\n", ["does not speak gRPC"]),
    ],
)
async def test_a_worker_is_told_what_is_there(open_saying, text, words):
    port = await open_saying(text)
    said = await why_not(port)
    assert said.startswith(f"127.0.0.1:{port} ")
    for word in words:
        assert word in said
    assert "\x1b" not in said


@pytest.mark.parametrize("ended", [False, True])
async def test_a_worker_at_a_web_server_of_http2(nursery, ended):
    """One that answers as web servers do, with a page or without."""
    ours, theirs = trio.testing.memory_stream_pair()
    channel = Channel(ours, "a:1")
    nursery.start_soon(channel.run)
    fields = {":status": "404", "content-type": "text/html"}
    await theirs.send_all(wire.settings() + wire.headers(1, fields, end=ended))
    with trio.fail_after(HANG_SECONDS), pytest.raises(Status) as caught:
        await channel.call("ActionService/GetServers", pb.GetServersRequest(), pb.GetServersResponse)
    assert "speaks HTTP/2 but not gRPC (it answered 404): workers connect to" in caught.value.message


async def test_a_plain_worker_on_a_tls_port(open_server, files):
    assert "speaks TLS and this worker does not" in await why_not(await open_server(server_context(*files)))


async def test_a_tls_worker_on_a_plain_port(open_server, files):
    context = ssl.create_default_context(cafile=files[0])
    assert "does not speak TLS: leave tls out" in await why_not(await open_server(), context)


async def test_a_tls_worker_on_an_http1_port(open_saying, files):
    context = ssl.create_default_context(cafile=files[0])
    said = await why_not(await open_saying(b"HTTP/1.1 400 Bad Request\r\n\r\n"), context)
    assert "does not speak TLS" in said
    assert "--grpc-port (8099 by default)" in said


async def test_a_server_that_was_one_is_just_gone(open_saying):
    port = await open_saying(b"\0\0\0\4\0\0\0\0\0")
    assert await why_not(port) in (f"the connection to 127.0.0.1:{port} was lost", f"127.0.0.1:{port} is gone")


async def test_a_server_of_words_without_end_is_not_read_for_long(autojump_clock, nursery):
    ours, theirs = trio.testing.memory_stream_pair()
    channel = Channel(ours, "a:1")

    async def say() -> None:
        with pytest.raises((trio.BrokenResourceError, trio.ClosedResourceError)):
            while True:
                await theirs.send_all(b"HTTP/1.1 ")
                await trio.sleep(0.1)

    nursery.start_soon(say)
    with trio.fail_after(5):
        await channel.run()
    await ours.aclose()


# By the first bytes.


@pytest.mark.parametrize(
    ("first", "foreign_protocol"),
    [
        (GET, SniffedProtocol.HTTP1),
        (b"PUT", SniffedProtocol.HTTP1),
        (b"P", SniffedProtocol.HTTP1),
        (b"PROPFIND /", SniffedProtocol.HTTP1),
        (PREFACE, SniffedProtocol.HTTP2),
        (PREFACE + b"\0", SniffedProtocol.HTTP2),
        (PREFACE[:5], SniffedProtocol.HTTP2),
        (HELLO, SniffedProtocol.TLS),
        (b"\x15\x03\x03", SniffedProtocol.TLS),
        (b"\x16\x02", SniffedProtocol.OTHER),
        (b"get / HTTP/1.1", SniffedProtocol.OTHER),
        (b"", SniffedProtocol.OTHER),
        (b"\0" * 50, SniffedProtocol.OTHER),
    ],
)
def test_clients(first, foreign_protocol):
    assert sniff_client(first) is foreign_protocol


@given(st.binary(max_size=100))
def test_any_bytes_are_somebody(first):
    foreign_protocol = sniff_client(first)
    assert len(sniffing.reply_on_plaintext_port(foreign_protocol)) < 500
    assert len(sniffing.reply_on_tls_port(foreign_protocol)) < 500
    said = sniffing.describe_server(first)
    assert "\n" not in said
    assert len(said) < 600


def test_the_answer_reaches_a_client_of_the_standard_library(free_port_server):
    """With something unread when it is closed, an answer would be lost to a reset."""
    with socket.create_connection(("127.0.0.1", free_port_server), 10) as client:
        client.sendall(b"POST / HTTP/1.1\r\n\r\n" + b"x" * 100_000)
        got = b""
        while data := client.recv(1000):
            got += data
    assert got.endswith(b"REST is at --http-port.\n")


@pytest.fixture
def free_port_server(behind):
    """The port of a worker API that runs in a thread."""
    import threading

    ready, port_of, stop = threading.Event(), [], []

    async def main() -> None:
        server = RpcServer(services_of(behind))
        listeners, port = await open_listeners("127.0.0.1", 0, "--grpc-port")
        port_of.append(port)
        with trio.CancelScope() as scope:
            stop.append((trio.lowlevel.current_trio_token(), scope))
            ready.set()
            await server.serve(listeners)

    thread = threading.Thread(target=trio.run, args=(main,))
    thread.start()
    assert ready.wait(HANG_SECONDS)
    yield port_of[0]
    token, scope = stop[0]
    token.run_sync_soon(scope.cancel)
    thread.join(HANG_SECONDS)
