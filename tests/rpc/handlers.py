"""Handlers that do what a test wants, and what is said to them over a connection by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import attrs
import trio

from orchy.rpc.generated import action_service_pb2 as pb
from orchy.rpc.grpc.framing import frame
from orchy.rpc.grpc.services import Method


@attrs.define
class Handlers:
    """One answers at once, one waits for ever, one reads a stream when it may, one tells for ever."""

    may_read: trio.Event = attrs.field(factory=trio.Event)
    read: list[str] = attrs.field(factory=list)
    held: int = 0
    stubborn: trio.Event | None = None
    reply: Any = attrs.field(factory=pb.Actions)

    async def answer(self, message: Any, request: Any = None) -> Any:
        await trio.lowlevel.checkpoint()
        return self.reply

    async def wait(self, message: Any, request: Any = None) -> Any:
        self.held += 1
        try:
            await trio.sleep_forever()
        finally:
            if self.stubborn is not None:
                with trio.CancelScope(shield=True):
                    await self.stubborn.wait()
            self.held -= 1

    async def take(self, messages: Any, request: Any = None) -> AsyncIterator[Any]:
        await self.may_read.wait()
        async for message in messages:
            self.read.append(message.flowId)
        yield pb.ActionResultPushResponse(status=True)

    async def tell(self, message: Any, request: Any = None) -> AsyncIterator[Any]:
        while True:
            yield self.reply

    def methods(self) -> dict[str, Method]:
        return {
            "/a": Method(self.answer, pb.ActionPollRequest, False, False),
            "/wait": Method(self.wait, pb.ActionPollRequest, False, False),
            "/take": Method(self.take, pb.ActionResult, True, True),
            "/tell": Method(self.tell, pb.ActionPollRequest, False, True),
        }


def results(count: int, size: int) -> list[bytes]:
    return [frame(pb.ActionResult(flowId=str(n), error="x" * size).SerializeToString()) for n in range(count)]


def large_reply(size: int) -> Any:
    reply = pb.Actions()
    reply.actions.add().flowId = "x" * size
    return reply


def headers_of(client: Any, stream_id: int) -> list[dict[str, str]]:
    """The headers and trailers that came on a stream."""
    return [
        {(k.decode() if isinstance(k, bytes) else k): (v.decode() if isinstance(v, bytes) else v) for k, v in e.headers}
        for e in client.events
        if getattr(e, "stream_id", None) == stream_id and hasattr(e, "headers")
    ]


async def send_all(client: Any, stream_id: int, data: bytes) -> None:
    """Data as the windows allow."""
    while data:
        sendable_bytes = min(client.http.local_flow_control_window(stream_id), 16_384)
        if not sendable_bytes:
            assert await client.receive()
            continue
        client.http.send_data(stream_id, data[:sendable_bytes])
        data = data[sendable_bytes:]
        await client.flush()
