"""*poll*: the cost of handing out work, by a worker's Poll call and by a claim in the store."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

import trio

from bench.harness.figures import Measured, figure
from bench.harness.options import Options
from bench.harness.processes import Server
from bench.harness.work import STEP, chain, start_many
from bench.store.opening import open_store
from orchy.rpc.generated import action_service_pb2 as pb
from orchy.rpc.grpc.channel import Channel, open_channel

#: Partitions that a node asks for work with one claim.
PARTITIONS_PER_CLAIM = 32
EMPTY_POLLS, CLAIMS, BATCH = 500, 100, 100


def run(server: Server, options: Options) -> Iterator[Measured]:
    """First through the server, then directly in the store."""
    server.call("POST", "/workflow", chain("three", 3))
    rounds = options.runs
    yield from trio.run(_polls, server, rounds)
    yield from trio.run(_claims, server, rounds)


async def _polls(server: Server, rounds: int) -> list[Measured]:
    figures: list[Measured] = []
    async with open_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        for name, batch, polls in (("nothing to be had", BATCH, EMPTY_POLLS), ("1", 1, CLAIMS), ("100", BATCH, 10)):
            ms, cpu_us, calls = [], [], []
            for _ in range(rounds):
                wanted = 0 if name.startswith("nothing") else batch * polls
                if wanted:
                    await trio.to_thread.run_sync(start_many, server, "three", wanted)
                before, cpu = server.metric("orchy_redis_commands_total"), server.cpu_seconds()
                waits, got = [], 0
                for _ in range(polls):
                    began = time.perf_counter()
                    got += await _poll(channel, batch)
                    waits.append((time.perf_counter() - began) * 1e3)
                if got < wanted * 0.9:
                    raise SystemExit(f"polls got {got} of {wanted}")
                ms.append(statistics.median(waits))
                cpu_us.append((server.cpu_seconds() - cpu) / polls * 1e6)
                calls.append((server.metric("orchy_redis_commands_total") - before) / polls)
                while await _poll(channel, BATCH):  # so that the next round begins with empty queues
                    pass
            figures.append(figure(f"Poll, {name}: p50", ms, "ms"))
            if polls >= CLAIMS:  # the CPU clock is too coarse for fewer
                figures.append(figure(f"Poll, {name}: CPU of the node", cpu_us, "us"))
            figures.append(figure(f"Poll, {name}: Redis calls", calls))
    return figures


async def _poll(channel: Channel, batch: int) -> int:
    """Poll without waiting; the number of actions that came."""
    request = pb.ActionPollRequest(actionType=STEP, batchSize=batch, waitMillis=0, workerId="bench")
    reply = await channel.call("ActionService/Poll", request, pb.Actions)
    return len(reply.actions)


async def _claims(server: Server, rounds: int) -> list[Measured]:
    figures: list[Measured] = []
    for limit, claims in ((1, CLAIMS), (BATCH, 20)):
        wall_us, script_us = [], []
        for _ in range(rounds):
            await trio.to_thread.run_sync(start_many, server, "three", limit * claims)
            async with open_store(server.redis) as (_, store):
                before, began, taken = server.redis.use(), time.perf_counter(), 0
                for number in range(claims):
                    first = number * PARTITIONS_PER_CLAIM % 64
                    partitions = range(first, first + PARTITIONS_PER_CLAIM)
                    taken += len((await store.claim(STEP, partitions, limit, "bench")).bodies)
                wall_us.append((time.perf_counter() - began) / claims * 1e6)
                script_us.append(server.redis.use().since(before).script_us / claims)
                while (await store.claim(STEP, range(64), BATCH, "bench")).bodies:
                    pass
            if taken < limit * claims * 0.8:
                raise SystemExit(f"{claims} claims of {limit} got {taken}")
        figures.append(figure(f"claim of {limit} from {PARTITIONS_PER_CLAIM} partitions: time", wall_us, "us"))
        figures.append(figure(f"claim of {limit}: time in Redis' script", script_us, "us"))
    return figures
