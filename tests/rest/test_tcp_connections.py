"""hypercorn's connection as we have it: answers whole, nobody kept who has gone, or who says nothing."""

from __future__ import annotations

from contextlib import asynccontextmanager

import pytest
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.worker_context import WorkerContext
from trio.testing import wait_all_tasks_blocked

from orchy.rest.tcp import TcpConnection

REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
LARGE = b"x" * 3_000_000


async def application(scope, receive, send):
    """Says how long the body was; /large has a large answer, /slow one after half a minute."""
    body = b""
    while (message := await receive())["type"] == "http.request":
        body += message["body"]
        if not message["more_body"]:
            break
    if scope["path"] == "/slow":
        await trio.sleep(30)
    answer = LARGE if scope["path"] == "/large" else b"%d" % len(body)
    headers = [(b"content-length", b"%d" % len(answer))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer, "more_body": False})


class Served:
    """A client's end, and the server's context."""

    def __init__(self, stream, context):
        self.stream = stream
        self.context = context
        self.ended = trio.Event()

    async def read_until(self, end):
        got = b""
        while not got.endswith(end):
            part = await self.stream.receive_some()
            assert part, f"closed after {got[-200:]!r}"
            got += part
        return got


@pytest.fixture
def serve():
    @asynccontextmanager
    async def serve():
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        async with listener:
            client = await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1])
            accepted = await listener.accept()
        config = Config()
        config.read_timeout, config.keep_alive_timeout = 60, 75
        served = Served(client, WorkerContext(None))
        connection = TcpConnection(ASGIWrapper(application), config, served.context, {}, accepted)

        async def run():
            await connection.run()
            served.ended.set()

        async with client, trio.open_nursery() as nursery:
            nursery.start_soon(run)
            with trio.fail_after(10_000):
                yield served
            nursery.cancel_scope.cancel()

    return serve


async def test_requests_one_after_the_other_and_in_one_packet(serve):
    async with serve() as served:
        for _ in range(3):
            await served.stream.send_all(REQUEST)
            answer = await served.stream.receive_some()  # head, body and end together
            assert answer.startswith(b"HTTP/1.1 200")
            assert answer.endswith(b"\r\n\r\n0")
        await served.stream.send_all(REQUEST * 3)
        got = await served.read_until(b"\r\n\r\n0")
        while got.count(b"HTTP/1.1 200") < 3:
            got += await served.read_until(b"\r\n\r\n0")


async def test_who_waits_before_sending_the_body_is_told_to_go_on(serve):
    async with serve() as served:
        head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
        await served.stream.send_all(head)
        assert (await served.read_until(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
        await served.stream.send_all(b"abc")
        assert (await served.read_until(b"\r\n\r\n3")).startswith(b"HTTP/1.1 200")


async def test_an_answer_that_the_socket_does_not_take_at_once_arrives_whole(serve):
    async with serve() as served:
        await served.stream.send_all(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
        got = bytearray()
        while len(got) < len(LARGE):
            got += await served.stream.receive_some()
        head, _, body = bytes(got).partition(b"\r\n\r\n")
        while len(body) < len(LARGE):
            body += await served.stream.receive_some()
        assert head.startswith(b"HTTP/1.1 200")
        assert body == LARGE


async def test_a_client_that_goes_is_let_go_at_once(serve):
    async with serve() as served:
        await served.stream.send_all(REQUEST)
        await served.read_until(b"\r\n\r\n0")
        await served.stream.send_eof()
        with trio.fail_after(5):
            await served.ended.wait()


@pytest.mark.parametrize("said", [b"", REQUEST, b"GET / HTTP/1.1\r\nHost"])
async def test_who_says_nothing_more_is_let_go(mock_clock, serve, said):
    async with serve() as served:
        await served.stream.send_all(said)
        if said == REQUEST:
            await served.read_until(b"\r\n\r\n0")
        await wait_all_tasks_blocked(0.01)
        mock_clock.jump(59)
        await wait_all_tasks_blocked(0.01)
        assert not served.ended.is_set()
        mock_clock.jump(2)
        await served.ended.wait()
        assert await served.stream.receive_some() == b""


async def test_a_head_that_dribbles_does_not_last_for_ever(mock_clock, serve):
    async with serve() as served:
        await served.stream.send_all(b"GET / HTTP/1.1\r\n")
        for number in range(2):
            await wait_all_tasks_blocked(0.01)
            mock_clock.jump(37)
            await served.stream.send_all(b"x-%d: y\r\n" % number)
        await wait_all_tasks_blocked(0.01)
        assert not served.ended.is_set()
        mock_clock.jump(2)
        await served.ended.wait()


async def test_a_stop_lets_quiet_clients_go_and_an_answer_under_way_be_given(mock_clock, serve):
    async with serve() as quiet, serve() as busy:
        await busy.stream.send_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        await wait_all_tasks_blocked(0.01)
        for served in (quiet, busy):
            await served.context.terminated.set()
        await quiet.ended.wait()
        assert not busy.ended.is_set()
        mock_clock.jump(31)
        assert (await busy.read_until(b"\r\n\r\n0")).startswith(b"HTTP/1.1 200")
        await busy.ended.wait()
