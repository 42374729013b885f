"""A connection to a Redis that stalls, goes silent or is never there: each call gets an outcome, in order."""

from __future__ import annotations

from functools import partial

import pytest
import trio
import trio.testing

from orchy.errors import OutcomeUnknown, StoreError, StoreUnavailable
from orchy.store.redis import RedisSettings, TcpAddress
from orchy.store.redis.client import Redis, Script
from orchy.store.redis.connection import Connection, ConnectionLost, pack
from orchy.store.redis.settings import RedisLimits

HANG_SECONDS = 30.0
TIMEOUT_SECONDS = 0.5
LARGE = b"x" * 200_000
SCRIPT = Script("add", "return 1")


class Server:
    """Greets, answers `answers` commands of one chunk each, and then stops reading from its socket."""

    def __init__(self, answers=0, silent=False):
        self.answers = answers
        self.silent = silent  # it reads on, and answers nothing
        self.port = 0
        self.connections = 0

    async def run(self, task_status):
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        listeners[0].socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 4_096)
        self.port = listeners[0].socket.getsockname()[1]
        await trio.serve_listeners(self.serve, listeners, task_status=task_status)

    async def serve(self, stream):
        self.connections += 1
        try:
            await stream.receive_some(65_536)
            await stream.send_all(b"+OK\r\n")  # to CLIENT SETNAME
            for _ in range(self.answers):
                await stream.receive_some(65_536)
                await stream.send_all(b":1\r\n")
            while self.silent:
                await stream.receive_some(65_536)
            await trio.sleep_forever()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass


@pytest.fixture
async def connect(nursery):
    """A connection to such a server."""

    async def connect(server, **settings):
        await nursery.start(server.run)
        settings = {"command_timeout_seconds": TIMEOUT_SECONDS} | settings
        address = TcpAddress("127.0.0.1", server.port)
        connection = Connection(address, RedisSettings((address,), **settings))
        nursery.start_soon(connection.run)
        with trio.fail_after(HANG_SECONDS):
            while not connection.connections_total:
                await trio.sleep(0.01)
        return connection

    return connect


async def test_a_batch_on_a_stalled_socket_fails_in_order(connect):
    """At the timeout some of it is in the socket and some still queued: each command gets an outcome."""
    connection = await connect(Server())
    with trio.fail_after(HANG_SECONDS):
        outcomes = await connection.call_all([pack("ECHO", LARGE)] * 100)
    assert len(outcomes) == 100
    assert [type(outcome) for outcome in outcomes if not isinstance(outcome, ConnectionLost | StoreUnavailable)] == []
    assert isinstance(outcomes[0], ConnectionLost)  # it was in the socket: it may have been carried out
    assert isinstance(outcomes[-1], StoreUnavailable)  # it was not


async def test_a_batch_of_scripts_on_a_stalled_socket_returns_an_error_for_each(connect, nursery):
    connection = await connect(Server())
    redis = Redis(RedisSettings((connection.address,), command_timeout_seconds=TIMEOUT_SECONDS), nursery)
    redis._connections[connection.address] = connection
    with trio.fail_after(HANG_SECONDS):
        outcomes = await redis.script_each(SCRIPT, [([b"key"], [LARGE])] * 100)
    assert all(isinstance(outcome, StoreError) for outcome in outcomes)
    assert isinstance(outcomes[0], OutcomeUnknown)
    assert isinstance(outcomes[-1], StoreUnavailable)


@pytest.mark.parametrize("silent", [False, True])
async def test_each_caller_gets_an_outcome_in_time(connect, silent):
    """Single calls, pairs and batches of all sizes together, some of them cancelled."""
    connection = await connect(Server(silent=silent))
    outcomes = []

    async def note(call, *args):
        try:
            outcomes.append(await call(*args))
        except (ConnectionLost, StoreUnavailable) as error:
            outcomes.append(error)

    with trio.fail_after(HANG_SECONDS):
        async with trio.open_nursery() as callers:
            for number in range(40):
                size = pack("ECHO", LARGE if number % 3 else b"x")
                callers.start_soon(note, connection.call, size)
                callers.start_soon(note, connection.call_pair, pack("ASKING"), size)
                callers.start_soon(note, connection.call_all, [size] * (number % 5))
                with trio.move_on_after(0.001):
                    await connection.call_all([size] * 10)
    assert len(outcomes) == 120
    for outcome in outcomes:
        for one in outcome if isinstance(outcome, list) else [outcome]:
            assert isinstance(one, ConnectionLost | StoreUnavailable), one


async def test_a_reply_before_the_stall_reaches_its_caller(connect):
    connection = await connect(Server(answers=1))
    assert await connection.call(pack("ECHO", "x")) == 1
    with pytest.raises(ConnectionLost):
        await connection.call(pack("ECHO", "x"))


async def test_a_lost_connection_is_made_again(connect):
    server = Server(silent=True)
    connection = await connect(server)
    with pytest.raises(ConnectionLost):
        await connection.call(pack("ECHO", "x"))
    with trio.fail_after(HANG_SECONDS):
        while server.connections < 2:
            await trio.sleep(0.01)


@pytest.mark.parametrize("batch", [False, True])
async def test_callers_over_the_limit_get_an_error_in_time(connect, batch):
    """Failures and cancelled callers let others proceed, not only replies."""
    connection = await connect(Server(silent=True), limits=RedisLimits(commands_max=5))
    outcomes = []

    async def note():
        try:
            await connection.call(pack("ECHO", "x"))
        except (ConnectionLost, StoreUnavailable) as error:
            outcomes.append(error)

    async def note_all():
        outcomes.extend(await connection.call_all([pack("ECHO", "x")] * 2))

    with trio.fail_after(HANG_SECONDS):
        async with trio.open_nursery() as callers:
            for _ in range(30):
                callers.start_soon(note_all if batch else note)
    assert len(outcomes) == 30 * (1 + batch)
    assert all(isinstance(outcome, ConnectionLost | StoreUnavailable) for outcome in outcomes)


async def test_a_cancelled_caller_lets_a_waiting_one_proceed():
    address = TcpAddress("127.0.0.1", 1)
    limits = RedisLimits(commands_max=3)
    connection = Connection(address, RedisSettings((address,), command_timeout_seconds=HANG_SECONDS, limits=limits))
    entered = []

    async def fill(scope):
        with scope:
            await connection.call_all([pack("ECHO", "x")] * 3)

    async def wait():
        await connection._wait_for_capacity()
        entered.append(True)

    async with trio.open_nursery() as callers:
        scope = trio.CancelScope()
        callers.start_soon(fill, scope)
        await trio.testing.wait_all_tasks_blocked()
        callers.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        assert not entered
        scope.cancel()
        with trio.fail_after(HANG_SECONDS):
            while not entered:
                await trio.sleep(0.01)


async def test_cancelling_many_callers_at_once_is_cheap(nursery):
    """Each of them leaves the queue; that must not cost a pass over the queue for each command."""
    address = TcpAddress("127.0.0.1", 1)
    connection = Connection(address, RedisSettings((address,)))
    async with trio.open_nursery() as callers:
        for _ in range(20):
            callers.start_soon(partial(connection.call_all, [pack("ECHO", "x")] * 1_000))
        await trio.testing.wait_all_tasks_blocked()
        callers.cancel_scope.cancel()
    assert not connection._queued
