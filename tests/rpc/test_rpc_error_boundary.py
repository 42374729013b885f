"""An exception that nobody foresaw ends one connection, wherever it comes from; the others do not notice."""

from __future__ import annotations

from functools import partial

import pytest
import trio

from orchy.rpc.generated import action_service_pb2 as pb
from orchy.rpc.grpc import server as server_module
from orchy.rpc.grpc.channel import ConnectionLost, open_channel
from orchy.rpc.grpc.connection import Connection
from orchy.rpc.grpc.write_buffer import WriteBuffer
from orchy.rpc.http2.machine import Http2
from orchy.runtime.sockets import PromptStream
from tests.rpc.wire import PREFACE, settings

HANG_SECONDS = 30.0
UNFORESEEN = [
    KeyError("k"),
    RecursionError("deep"),
    MemoryError(),
    AssertionError("a bug"),
    OSError(24, "Too many open files"),
    trio.BrokenResourceError(),
    ExceptionGroup("several", [ValueError("v"), OSError("o")]),
]


async def ask(port: int) -> int:
    with trio.fail_after(HANG_SECONDS):
        async with open_channel(f"127.0.0.1:{port}") as channel:
            reply = await channel.call("ActionService/GetServers", pb.GetServersRequest(), pb.GetServersResponse)
            return len(reply.servers)


def raiser(error):
    def fail(*_, **__):
        raise error

    return fail


@pytest.mark.parametrize("error", UNFORESEEN, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (Connection, "serve"),
        (Connection, "_take"),
        (Connection, "_check_timeouts"),
        (Connection, "_watch"),
        (Http2, "receive"),
        (WriteBuffer, "run"),
        (PromptStream, "__init__"),
        (PromptStream, "aclose"),
    ],
    ids=lambda item: getattr(item, "__name__", item),
)
async def test_it_ends_one_connection(api, until, monkeypatch, owner, name, error):
    async with open_channel(f"127.0.0.1:{api.port}") as other:
        await other.call("ActionService/GetServers", pb.GetServersRequest(), pb.GetServersResponse)
        with monkeypatch.context() as patch:
            stream = await trio.open_tcp_stream("127.0.0.1", api.port)  # a client of none of our classes
            patch.setattr(owner, name, raiser(error))
            await stream.send_all(PREFACE + settings())
            await trio.sleep(0.05)
            await stream.aclose()
            await trio.sleep(0.05)
        reply = await ask(api.port)
        assert reply == 2
    await until(lambda: api.server.connections == 0)


async def test_a_flood_of_connections_that_fail_is_one_kind_of_line(api, monkeypatch, caplog):
    monkeypatch.setattr(Connection, "serve", raiser(KeyError("k")))
    for _ in range(20):
        with pytest.raises(ConnectionLost):
            await ask(api.port)
    records = [record for record in caplog.records if record.name == server_module.log.name]
    assert len({(record.pathname, record.lineno) for record in records}) == 1


async def test_what_can_not_be_closed_is_let_go(behind, nursery, monkeypatch):
    from orchy.rpc.grpc.server import RpcServer, open_listeners
    from tests.rpc.conftest import services_of

    server = RpcServer(services_of(behind))
    listeners, port = await open_listeners("127.0.0.1", 0, "--grpc-port")
    await nursery.start(partial(server.serve, listeners))
    closed = []

    async def fail(self):
        closed.append(self)
        self._socket.close()
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(PromptStream, "aclose", fail)
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.aclose()
        with trio.fail_after(HANG_SECONDS):
            while not closed:
                await trio.sleep(0.01)
    assert await ask(port) == 2
