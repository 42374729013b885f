"""A connection to the REST port: responses arrive whole; clients that left, are silent or too slow are dropped."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from orchy.rest.http.limits import Limits, Timing
from orchy.rest.http.server import RestServer
from orchy.rest.middleware.guard import Guard

HOST = b"Host: localhost\r\n"
REQUEST = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"
JSON = b"Content-Type: application/json\r\n"
LARGE = b"x" * 3_000_000
BODY_BYTES_MAX = 1_000_000
TIMING = Timing()


def post(*fields):
    """The head of a request with a JSON body."""
    return b"POST / HTTP/1.1\r\n" + HOST + JSON + b"".join(field + b"\r\n" for field in fields) + b"\r\n"


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


class Counter:
    """An observer that counts."""

    def __init__(self):
        self.reasons = []
        self.failures = 0

    def request_refused(self, reason):
        self.reasons.append(reason)

    def connection_failed(self):
        self.failures += 1


class Served:
    """A server, and the clients that connect to it."""

    def __init__(self, server, port, counter, stop):
        self.server = server
        self.port = port
        self.counter = counter
        self.stop = stop
        self.stopped = trio.Event()

    async def connect(self):
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        await wait_all_tasks_blocked(0.01)
        return Client(stream)


class Client:
    """One of them."""

    def __init__(self, stream):
        self.stream = stream
        self.got = b""

    async def send(self, data):
        await self.stream.send_all(data)
        await wait_all_tasks_blocked(0.01)

    async def read_until(self, end):
        while not self.got.endswith(end):
            part = await self.stream.receive_some()
            assert part, f"closed after {self.got[-200:]!r}"
            self.got += part
        got, self.got = self.got, b""
        return got

    async def read_all(self):
        while part := await self.stream.receive_some():
            self.got += part
        return self.got

    async def refused(self):
        """(status, sentence) of the last answer on it."""
        await self.stream.send_eof()
        head, _, body = (await self.read_all()).partition(b"\r\n\r\n")
        assert b"connection: close" in head
        answer = json.loads(body)
        assert answer["details"] == []
        return int(head.split()[1]), answer["error"]


@pytest.fixture
def serve():
    @asynccontextmanager
    async def serve(asgi=application, **limits):
        counter, stop = Counter(), trio.Event()
        server = RestServer(asgi, Guard(), counter, Limits(body_bytes_max=BODY_BYTES_MAX, **limits), TIMING)
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        served = Served(server, listeners[0].socket.getsockname()[1], counter, stop)

        async def run():
            await server.serve(listeners, stop, 40)
            served.stopped.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            with trio.fail_after(10_000):
                yield served
            nursery.cancel_scope.cancel()

    return serve


async def test_requests_one_after_the_other_and_in_one_packet(serve):
    async with serve() as served:
        client = await served.connect()
        for _ in range(3):
            await client.stream.send_all(REQUEST)
            answer = await client.stream.receive_some()  # head, body and end together
            assert answer.startswith(b"HTTP/1.1 200")
            assert answer.endswith(b"\r\n\r\n0")
        await client.stream.send_all(REQUEST * 30)
        got = await client.read_until(b"\r\n\r\n0")
        while got.count(b"HTTP/1.1 200") < 30:
            got += await client.read_until(b"\r\n\r\n0")


async def test_a_connection_lasts_for_any_number_of_requests(serve):
    async with serve() as served:
        client = await served.connect()
        for _ in range(1_100):
            await client.stream.send_all(REQUEST)
            assert b"connection: close" not in await client.read_until(b"\r\n\r\n0")


async def test_expect_100_continue_is_answered(serve):
    async with serve() as served:
        client = await served.connect()
        await client.send(post(b"Content-Length: 3", b"Expect: 100-continue"))
        assert (await client.read_until(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
        await client.send(b"abc")
        assert (await client.read_until(b"\r\n\r\n3")).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("field", [b"Content-Length: 2000000", b"Content-Type: text/plain\r\nContent-Length: 3"])
async def test_expect_100_continue_is_refused_before_the_body_is_sent(serve, field):
    async with serve() as served:
        client = await served.connect()
        await client.send(b"POST / HTTP/1.1\r\n" + HOST + field + b"\r\nExpect: 100-continue\r\n\r\n")
        assert (await client.refused())[0] in (413, 415)


async def test_an_answer_that_the_socket_does_not_take_at_once_arrives_whole(serve):
    async with serve() as served:
        client = await served.connect()
        await client.stream.send_all(b"GET /large HTTP/1.1\r\n" + HOST + b"\r\n")
        got = bytearray()
        while len(got) < len(LARGE):
            got += await client.stream.receive_some()
        head, _, body = bytes(got).partition(b"\r\n\r\n")
        while len(body) < len(LARGE):
            body += await client.stream.receive_some()
        assert head.startswith(b"HTTP/1.1 200")
        assert body == LARGE


async def test_responses_that_are_not_read_are_held_within_a_limit(serve):
    async with serve(bytes_max=4_000_000) as served:
        clients = [await served.connect() for _ in range(6)]
        for client in clients:
            await client.send(b"GET /large HTTP/1.1\r\n" + HOST + b"\r\n")
        assert served.server.connections < len(clients)


async def test_a_streaming_answer_is_passed_on_as_it_comes(mock_clock, serve):
    from quart_trio import QuartTrio

    app = QuartTrio("streams")

    @app.get("/")
    async def events():
        async def four():
            for number in range(4):
                yield b"event %d\n" % number
                await trio.sleep(0.5)

        return four(), {"Content-Type": "text/event-stream"}

    async with serve(app) as served:
        client = await served.connect()
        await client.send(REQUEST)
        for number in range(4):
            got = await client.stream.receive_some()
            assert got.endswith(b"event %d\n\r\n" % number)
            assert got.count(b"event ") == 1
            await wait_all_tasks_blocked(0.01)
            mock_clock.jump(0.5)
        assert await client.stream.receive_some() == b"0\r\n\r\n"


async def test_a_connection_that_the_client_ends_is_closed_at_once(serve):
    async with serve() as served:
        client = await served.connect()
        await client.stream.send_all(REQUEST)
        await client.read_until(b"\r\n\r\n0")
        await client.stream.send_eof()
        with trio.fail_after(5):
            assert await client.read_all() == b""


async def test_an_application_that_waits_for_the_disconnect_is_told_of_it(serve):
    disconnected = trio.Event()

    async def waits(scope, receive, send):
        assert (await receive())["type"] == "http.request"
        assert (await receive())["type"] == "http.disconnect"
        disconnected.set()

    async with serve(waits) as served:
        client = await served.connect()
        await client.send(REQUEST)
        await client.stream.aclose()
        with trio.fail_after(5):
            await disconnected.wait()


@pytest.mark.parametrize("said", [b"", REQUEST])
async def test_an_idle_connection_is_closed(mock_clock, serve, said):
    async with serve() as served:
        client = await served.connect()
        await client.send(said)
        if said == REQUEST:
            await client.read_until(b"\r\n\r\n0")
        mock_clock.jump(TIMING.idle_seconds - 1)
        await wait_all_tasks_blocked(0.01)
        assert served.server.connections == 1
        mock_clock.jump(2)
        assert await client.read_all() == b""


@pytest.mark.parametrize("begun", [b"", REQUEST, REQUEST[:-4]])
async def test_a_slow_head_times_out(mock_clock, serve, begun):
    async with serve() as served:
        client = await served.connect()
        await client.send(b"GET / HTTP/1.1\r\n")
        for number in range(9):
            mock_clock.jump(1)
            await client.send(b"x-%d: y\r\n" % number)
        assert served.server.connections == 1
        mock_clock.jump(2)
        assert await client.refused() == (408, "the head of the request did not arrive within 10 s")
        assert served.counter.reasons == ["timeout"]


async def test_a_slow_body_times_out(mock_clock, serve):
    async with serve() as served:
        client = await served.connect()
        await client.send(post(b"Content-Length: 10"))
        for _ in range(4):
            await client.send(b"x")
            mock_clock.jump(8)
            await wait_all_tasks_blocked(0.01)
        assert await client.refused() == (408, "the body did not arrive within 30 s")


async def test_a_stop_closes_idle_connections_and_finishes_responses(mock_clock, serve):
    async with serve() as served:
        quiet, half, busy = [await served.connect() for _ in range(3)]
        await half.send(b"GET / HT")
        await busy.send(b"GET /slow HTTP/1.1\r\n" + HOST + b"\r\n")
        served.stop.set()
        assert await quiet.read_all() == b""
        assert await half.read_all() == b""
        assert not served.stopped.is_set()
        mock_clock.jump(31)
        answer = await busy.read_all()
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"connection: close" in answer
        await served.stopped.wait()


@pytest.mark.parametrize(
    ("sent", "status", "words"),
    [
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "--grpc-port"),
        (b"GET / HTTP/9.9\r\n" + HOST + b"\r\n", 400, "HTTP/1.1"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "Host"),
        (b"GET / HTTP/1.0\r\n\r\n", 400, "Host"),
        (b"\xff" * 100, 400, "HTTP/1.1"),
        (b"GET / HTTP/1.1\r\n" + HOST + b"x: " + b"y" * 70_000, 431, "HTTP/1.1"),
        (b"GET / HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", 400, "WebSocket"),
        (post(b"Content-Length: 4", b"Transfer-Encoding: chunked"), 400, "exclude"),
        (post(b"Content-Length: 1000001"), 413, "1000000 bytes"),
        (post(b"Transfer-Encoding: chunked") + b"100000\r\n" + b" " * 2**20, 413, "1000000 bytes"),
        (post(b"Transfer-Encoding: chunked") + b"1\r\n \r\n" * 3_000, 400, "too small"),
        (post(b"Transfer-Encoding: gzip"), 501, "chunked"),
        (post(b"Transfer-Encoding: chunked") + b"zz\r\n", 400, "HTTP/1.1"),
    ],
    ids=lambda value: repr(value)[:30],
)
async def test_a_malformed_request_is_refused_and_ends_its_connection(serve, sent, status, words):
    async with serve() as served:
        client = await served.connect()
        await client.send(sent)
        refused_with, sentence = await client.refused()
        assert refused_with == status
        assert words in sentence
        assert len(served.counter.reasons) == 1


async def test_tls_is_closed_at_once(serve):
    async with serve() as served:
        client = await served.connect()
        await client.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        assert await client.read_all() == b""
        assert served.counter.reasons == ["tls"]


async def test_an_offer_of_h2c_is_declined_by_an_answer_over_http_1(serve):
    async with serve() as served:
        client = await served.connect()
        fields = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: A\r\n"
        for _ in range(2):
            await client.send(b"GET / HTTP/1.1\r\n" + HOST + fields + b"\r\n")
            assert (await client.read_until(b"\r\n\r\n0")).startswith(b"HTTP/1.1 200")


async def test_a_client_that_still_sends_gets_to_read_the_refusal(serve):
    async with serve() as served:
        client = await served.connect()
        await client.stream.send_all(post(b"Content-Length: 20000000"))
        await client.stream.send_all(b" " * 20_000_000)
        assert (await client.refused())[0] == 413


async def test_lingering_after_a_refusal_has_a_limit(mock_clock, serve):
    async with serve() as served:
        client = await served.connect()
        await client.send(post(b"Content-Length: 20000000"))
        mock_clock.jump(TIMING.linger_seconds + 1)
        await wait_all_tasks_blocked(0.01)
        assert served.server.connections == 0


async def test_requests_over_the_rate_are_answered_429(mock_clock, serve):
    async with serve(requests_per_second=2) as served:
        client = await served.connect()
        for status in (200, 200, 429, 429):
            await client.send(REQUEST)
            got = await client.stream.receive_some()
            assert got.startswith(b"HTTP/1.1 %d" % status)
        assert b"retry-after: 1" in got.lower()
        mock_clock.jump(1)
        await client.send(REQUEST)
        assert (await client.read_until(b"\r\n\r\n0")).startswith(b"HTTP/1.1 200")


async def test_connections_without_a_request_are_evicted_for_one_with_a_request(serve):
    async with serve(connections_max=5) as served:
        half_open = [await served.connect() for _ in range(20)]
        assert served.server.connections == 5
        client = await served.connect()
        await client.send(REQUEST)
        await client.read_until(b"\r\n\r\n0")
        assert (await half_open[0].refused())[0] == 503


async def test_while_all_connections_are_being_served_others_are_answered_503(mock_clock, serve):
    async with serve(connections_max=2) as served:
        busy = [await served.connect() for _ in range(2)]
        for client in busy:
            await client.send(b"GET /slow HTTP/1.1\r\n" + HOST + b"\r\n")
        assert (await (await served.connect()).read_all()).startswith(b"HTTP/1.1 503")
        mock_clock.jump(31)
        for client in busy:
            assert (await client.read_until(b"\r\n\r\n0")).startswith(b"HTTP/1.1 200")


async def test_unfinished_bodies_are_evicted_for_one_that_is_complete(serve):
    async with serve(bytes_max=2_000_000) as served:
        clients = [await served.connect() for _ in range(5)]
        for client in clients[:4]:
            await client.send(post(b"Content-Length: 900000") + b" " * 800_000)
        await clients[4].send(post(b"Content-Length: 3") + b"abc")
        assert (await clients[4].read_until(b"\r\n\r\n3")).startswith(b"HTTP/1.1 200")
        assert served.counter.reasons == ["crowd", "crowd"]


async def test_an_application_that_fails_is_an_answer_and_the_end_of_its_connection_only(serve, caplog):
    async def fails(scope, receive, send):
        if scope["path"] == "/half":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})
            await send({"type": "http.response.body", "body": b"half", "more_body": True})
        if scope["path"] == "/header":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"x", b"a\r\nb: c")]})
            await send({"type": "http.response.body", "body": b""})
        raise RuntimeError("secret")

    async with serve(fails) as served:
        for path, beginning in [(b"/", b"HTTP/1.1 500"), (b"/half", b"HTTP/1.1 200"), (b"/header", b"")] * 20:
            client = await served.connect()
            await client.send(b"GET " + path + b" HTTP/1.1\r\n" + HOST + b"\r\n")
            answer = await client.read_all()
            assert answer.startswith(beginning)
            assert b"secret" not in answer
        assert served.counter.failures == 60
        assert served.server.connections == 0
    assert len(caplog.records) == 60  # one each; how many are written is the limit of `orchy.telemetry.logs`


async def test_an_error_of_the_connection_itself_is_its_end_only(monkeypatch, serve, caplog):
    def fail(*arguments):
        raise RuntimeError("an unexpected error")

    async with serve() as served:
        with monkeypatch.context() as patch:
            patch.setattr(Guard, "refuse", fail)
            client = await served.connect()
            await client.send(REQUEST)
            assert await client.read_all() == b""
        assert "an unexpected error" in caplog.text
        client = await served.connect()
        await client.send(REQUEST)
        await client.read_until(b"\r\n\r\n0")
