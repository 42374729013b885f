"""gRPC's own client in its asyncio form, in a thread with a loop of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import grpc
import grpc.aio
import trio

from orchy.rpc.generated import action_service_pb2 as pb
from orchy.rpc.generated import health_pb2
from tests.rpc.conftest import HANG_SECONDS, METHODS, Api

Talk = Callable[[Callable[[str], Any]], Awaitable[Any]]


async def talk_to(api: Api, talk: Talk) -> Any:
    """What a coroutine on asyncio answers that is given a function from a method's name to its call."""

    async def main() -> Any:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{api.port}") as channel:

            def method(name: str) -> Any:
                path, request_type, reply_type = METHODS[name]
                kind = channel.unary_stream if name == "Watch" else channel.unary_unary
                return kind(path, request_type.SerializeToString, reply_type.FromString)

            return await asyncio.wait_for(talk(method), HANG_SECONDS)

    return await trio.to_thread.run_sync(partial(asyncio.run, main()))


async def test_calls_side_by_side_on_one_connection(api):
    async def talk(method: Any) -> list[bool]:
        push = method("Push")
        results = [pb.ActionResult(flowId=f"f{n}", actionId=1, retryCount=1) for n in range(300)]
        return [reply.status for reply in await asyncio.gather(*map(push, results))]

    assert await talk_to(api, talk) == [True] * 300
    assert sorted(result.flow_id for result in api.behind.results) == sorted(f"f{n}" for n in range(300))
    assert api.server.connections <= 1


async def test_a_call_that_is_cancelled_there_is_cancelled_here(api, until):
    api.behind.hold = True

    async def talk(method: Any) -> bool:
        call = method("Poll")(pb.ActionPollRequest(actionType="act", batchSize=1, waitMillis=60_000))
        while not api.behind.held:
            await asyncio.sleep(0.01)
        call.cancel()
        try:
            await call
        except asyncio.CancelledError:
            return True
        return False

    assert await talk_to(api, talk)
    await until(lambda: (api.behind.held, api.behind.cancelled) == (0, 1))


async def test_a_deadline_and_a_refusal_are_statuses(api, until):
    api.behind.hold = True

    async def talk(method: Any) -> list[grpc.StatusCode]:
        codes = []
        for request, timeout in ((pb.ActionPollRequest(actionType="act"), 0.2), (pb.ActionPollRequest(), 20)):
            try:
                await method("Poll")(request, timeout=timeout)
            except grpc.aio.AioRpcError as error:
                codes.append(error.code())
        return codes

    assert await talk_to(api, talk) == [grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.INVALID_ARGUMENT]
    await until(lambda: api.behind.held == 0)


async def test_a_stream_is_read_until_it_is_left(api, until):
    async def talk(method: Any) -> list[int]:
        call = method("Watch")(health_pb2.HealthCheckRequest())
        seen = []
        async for reply in call:
            seen.append(reply.status)
            if len(seen) == 2:
                break
            api.behind.ready = False
        call.cancel()
        return seen

    response = health_pb2.HealthCheckResponse
    assert await talk_to(api, talk) == [response.SERVING, response.NOT_SERVING]
    await until(lambda: api.server.connections == 0)
