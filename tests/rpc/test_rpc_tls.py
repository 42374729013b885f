"""The worker API inside TLS: who gets in, who does not, and that nobody holds up the others."""

from __future__ import annotations

import ssl
from contextlib import suppress
from functools import partial
from typing import Any

import grpc
import pytest
import trio

from orchy.errors import ConfigurationError
from orchy.rpc.generated import action_service_pb2 as pb
from orchy.rpc.grpc.channel import ConnectionLost, open_channel
from orchy.rpc.grpc.limits import SERVER_LIMITS, ServerLimits
from orchy.rpc.grpc.server import RpcServer, open_listeners
from orchy.rpc.grpc.tls import server_context
from tests.certificates import make_certificate
from tests.rpc.conftest import services_of

HANG_SECONDS = 30.0


@pytest.fixture
def files(tmp_path):
    """A certificate and its key."""
    return make_certificate(tmp_path)


@pytest.fixture
async def secured(behind, files, request):
    """A server with TLS, and its port; its parameter, if any, is its limits."""
    limits = getattr(request, "param", SERVER_LIMITS)
    server = RpcServer(services_of(behind), limits, server_context(*files))
    listeners, port = await open_listeners("127.0.0.1", 0, "--grpc-port")
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(server.serve, listeners))
        yield server, port
        nursery.cancel_scope.cancel()


def trusting(files: Any) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=files[0])


async def servers_of(port: int, context: ssl.SSLContext | None, host: str = "127.0.0.1") -> list[str]:
    with trio.fail_after(HANG_SECONDS):
        async with open_channel(f"{host}:{port}", context) as channel:
            reply = await channel.call("ActionService/GetServers", pb.GetServersRequest(), pb.GetServersResponse)
            return [server.id for server in reply.servers]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_our_own_client_is_served(secured, files, host, version):
    context = trusting(files)
    context.minimum_version = context.maximum_version = version
    assert await servers_of(secured[1], context, host) == ["a", "b"]


async def test_grpcs_own_client_is_served(secured, files):
    def call() -> list[str]:
        credentials = grpc.ssl_channel_credentials(files[0].read_bytes())
        with grpc.secure_channel(f"127.0.0.1:{secured[1]}", credentials) as channel:
            method = channel.unary_unary(
                "/ActionService/GetServers", pb.GetServersRequest.SerializeToString, pb.GetServersResponse.FromString
            )
            return [server.id for server in method(pb.GetServersRequest(), timeout=HANG_SECONDS).servers]

    assert await trio.to_thread.run_sync(call) == ["a", "b"]


async def test_large_messages_go_both_ways(secured, behind, files):
    action = pb.Action(flowId="f")
    action.data["x"].string_value = "x" * 3_000_000
    behind.bodies = [action.SerializeToString()]
    with trio.fail_after(HANG_SECONDS):
        async with open_channel(f"127.0.0.1:{secured[1]}", trusting(files)) as channel:
            poll = pb.ActionPollRequest(actionType="act", batchSize=1)
            reply = await channel.call("ActionService/Poll", poll, pb.Actions)
            assert len(reply.actions[0].data["x"].string_value) == 3_000_000
            result = pb.ActionResult(flowId="f", actionId=1, retryCount=1, error="y" * 3_000_000)
            assert (await channel.call("ActionService/Push", result, pb.ActionResultPushResponse)).status


async def test_a_server_that_is_not_trusted_is_not_spoken_to(secured, tmp_path):
    (tmp_path / "other").mkdir()
    with pytest.raises(ConnectionLost, match=r"no TLS with 127\.0\.0\.1.*CERTIFICATE_VERIFY_FAILED"):
        await servers_of(secured[1], trusting(make_certificate(tmp_path / "other")))


async def test_a_server_without_tls_is_not_spoken_to(api, files):
    with pytest.raises(ConnectionLost, match="does not speak TLS: leave tls out"):
        await servers_of(api.port, trusting(files))


async def test_a_client_without_tls_is_let_go(secured):
    with pytest.raises(ConnectionLost):
        await servers_of(secured[1], None)


@pytest.mark.parametrize("protocols", [[], ["http/1.1"], ["h2c", "grpc-exp"]])
async def test_a_client_that_does_not_ask_for_http2_is_let_go(secured, files, protocols):
    context = trusting(files)
    if protocols:
        context.set_alpn_protocols(protocols)
    socket = await trio.open_tcp_stream("127.0.0.1", secured[1])
    stream = trio.SSLStream(socket, context, server_hostname="127.0.0.1", https_compatible=True)
    with trio.fail_after(HANG_SECONDS):
        await stream.do_handshake()
        with suppress(trio.BrokenResourceError):  # closed either way
            assert await stream.receive_some() == b""


async def test_a_server_that_does_not_speak_http2_is_not_spoken_to(files):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*files)
    listeners = await trio.open_ssl_over_tcp_listeners(0, context, host="127.0.0.1")
    port = listeners[0].transport_listener.socket.getsockname()[1]

    async def serve(stream: Any) -> None:
        with suppress(trio.BrokenResourceError):
            await stream.receive_some()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        with pytest.raises(ConnectionLost, match="does not speak HTTP/2"):
            await servers_of(port, trusting(files))
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("secured", [ServerLimits(handshake_seconds=1.0)], indirect=True)
async def test_those_who_do_not_get_through_their_handshake_hold_up_nobody(secured, files, until):
    server, port = secured
    silent = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(20)]
    await silent[0].send_all(b"\x16\x03\x01\x00\xff")
    await until(lambda: server._handshakes == 20)
    assert await servers_of(port, trusting(files)) == ["a", "b"]
    with trio.fail_after(HANG_SECONDS):
        for stream in silent:
            with suppress(trio.BrokenResourceError):
                assert await stream.receive_some() == b""
    assert server._handshakes == 0
    assert server.connections == 0


@pytest.mark.parametrize("secured", [ServerLimits(handshakes_max=2)], indirect=True)
async def test_there_is_a_limit_to_the_handshakes_and_connections_count(secured, files, until):
    server, port = secured
    async with open_channel(f"127.0.0.1:{port}", trusting(files)) as channel:
        silent = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(2)]
        await until(lambda: server._handshakes == 2)
        with pytest.raises(ConnectionLost):
            await servers_of(port, trusting(files))
        assert await channel.call("ActionService/GetServers", pb.GetServersRequest(), pb.GetServersResponse)
        await silent[0].aclose()
        await until(lambda: server._handshakes == 1)
        assert await servers_of(port, trusting(files)) == ["a", "b"]


async def test_a_drain_does_not_wait_for_handshakes_and_takes_nobody_in_after_them(secured, files, until):
    server, port = secured
    socket = await trio.open_tcp_stream("127.0.0.1", port)
    await until(lambda: server._handshakes == 1)
    with trio.fail_after(HANG_SECONDS):
        await server.drain()
        context = trusting(files)
        context.set_alpn_protocols(["h2"])
        stream = trio.SSLStream(socket, context, server_hostname="127.0.0.1", https_compatible=True)
        with suppress(trio.BrokenResourceError):
            assert await stream.receive_some() == b""
    assert server.connections == 0


# The files.


def test_a_file_that_is_not_there_is_named_with_its_flag(files, tmp_path):
    for pair, words in [
        ((tmp_path / "none", files[1]), "--grpc-tls-cert .*none can't be read: No such file"),
        ((files[0], tmp_path / "none"), "--grpc-tls-key .*none can't be read: No such file"),
        ((tmp_path, files[1]), "--grpc-tls-cert .* can't be read: Is a directory"),
    ]:
        with pytest.raises(ConfigurationError, match=words):
            server_context(*pair)


def test_files_that_are_not_what_they_should_be(files, tmp_path):
    for folder in ("other", "locked"):
        (tmp_path / folder).mkdir()
    other = make_certificate(tmp_path / "other")
    locked = make_certificate(tmp_path / "locked", password=b"secret")
    noise = tmp_path / "noise"
    noise.write_bytes(b"\0noise")
    for pair in [(files[0], other[1]), (files[1], files[0]), (noise, files[1]), (files[0], noise), locked]:
        with pytest.raises(ConfigurationError, match="are not a certificate and its key") as caught:
            server_context(*pair)
        assert len(str(caught.value).splitlines()) == 1
