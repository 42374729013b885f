"""One run: a cluster under load, a fault in the middle, and a check of everything at the end."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

import attrs
import redis
import trio

from tests.faults import collect, shapes
from tests.faults.checker import HEAL_SECONDS_MAX, Verdict, check
from tests.faults.faults import Fault
from tests.faults.load import Load
from tests.faults.observations import Seen, read_log, read_logs
from tests.faults.world import Settings, World, make_world, start_cluster

WARM_SECONDS = 3.0
BASELINE_SECONDS = 5.0
#: How long the load goes on after a fault.
AFTER_SECONDS = 4.0
EPOCHS_EVERY_SECONDS = 1.0
LOOK_SECONDS = 0.3
#: After the last flow: how long stale queue entries may take to be dropped.
SWEEP_SECONDS = 10.0


def run_fault(fault: Fault, settings: Settings) -> Verdict:
    """Make the run. Raises RuntimeError if it can't be made at all."""
    keep: list[bool] = []
    with make_world(settings, proxied=fault.proxied, clustered=fault.clustered, keep=keep) as world:
        verdict = check(trio.run(_run, fault, world))
        keep.append(bool(verdict.broken))
    return verdict


async def _run(fault: Fault, world: World) -> Seen:
    settings = world.settings
    await start_cluster(world)
    weights = fault.weights or shapes.WEIGHTS
    log = world.folder / "client.jsonl"
    load = Load(world.rest, log, random.Random(settings.seed + 1), settings.rate, weights)
    epochs: list[dict[int, int]] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_sample_epochs, world, epochs)
        async with trio.open_nursery() as clients:
            async with trio.open_nursery() as starting:
                starting.start_soon(load.run, clients)
                await trio.sleep(WARM_SECONDS)
                baseline_began = time.time()
                await trio.sleep(BASELINE_SECONDS)
                baseline = (baseline_began, time.time())
                await fault.happen(world)
                await trio.sleep(AFTER_SECONDS)
                starting.cancel_scope.cancel()
            await _drain(world, load)
        nursery.cancel_scope.cancel()
    flows = {noted.flow for noted in read_log(log) if noted.what == "start"}
    views, histories = await collect.read_flows(world.rest, flows)
    return Seen(
        client=read_log(log),
        workers=read_logs(sorted(world.folder.glob("workers-*.jsonl"))),
        flows=views,
        histories=histories,
        epochs=epochs,
        leftovers=await world.blocking(_leftovers, world),
        baseline=baseline,
        began=world.began,
        ended=world.ended,
        heal_from=world.heal_from,
        delivery_seconds=fault.delivery_seconds,
        store_may_lose=fault.store_may_lose(settings.fsync),
        loses_from=world.loses_from,
    )


async def _sample_epochs(world: World, epochs: list[dict[int, int]]) -> NoReturn:
    while True:
        with suppress(redis.RedisError):  # it may be what this run breaks
            epochs.append(await world.blocking(_with_redis, world, collect.read_epochs))
        await trio.sleep(EPOCHS_EVERY_SECONDS)


async def _drain(world: World, load: Load) -> None:
    """Returns when no call is open and each flow is over, or after a limit."""
    give_up_at = trio.current_time() + HEAL_SECONDS_MAX
    while trio.current_time() < give_up_at:
        try:
            active = await world.blocking(_with_redis, world, collect.count_active)
        except redis.RedisError:
            active = 1
        if not active and not load.open_calls:
            return
        if not load.open_calls:
            await _resume_left(world, load)
        await trio.sleep(LOOK_SECONDS)


async def _resume_left(world: World, load: Load) -> None:
    """Flows whose pause was sent more than once, so that the second came after the resumption."""
    sent: dict[str, int] = {}
    for noted in read_log(world.folder / "client.jsonl"):
        if noted.what == "pause":
            sent[noted.flow] = sent.get(noted.flow, 0) + 1
    again = [flow for flow, times in sent.items() if times > 1]
    for flow in await world.blocking(_with_redis, world, collect.paused_flows, again):
        await load.resume_again(flow)


def _with_redis(world: World, call: object, *args: object) -> object:
    with world.redis.client() as client:
        return call(client, *args)  # type: ignore[operator]


def _leftovers(world: World) -> Sequence[str]:
    """What is left in Redis after workers have had time to poll away stale entries."""
    give_up_at = time.monotonic() + SWEEP_SECONDS
    while True:
        with world.redis.client() as client:
            left = collect.read_leftovers(client)
        if not left or time.monotonic() > give_up_at:
            return left
        time.sleep(LOOK_SECONDS)


def describe(verdict: Verdict) -> str:
    """One row in the terminal."""
    return ", ".join(f"{name} {value}" for name, value in attrs.asdict(verdict.figures).items() if value is not None)
