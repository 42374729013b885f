"""How long a killed node is missed: `python -m tests.faults.kills [--kills 10] [--profile default] [--rate 40]`.

One node after the other is killed (-9) under load and started again when that has been looked at. Of each kill: how
long partitions were without an owner, as Redis says, and how long flows took that were under way or started then.
Workers survive, and take attempts from all nodes. An attempt that the dead node had handed out, and that never came to
a worker, comes back by its timeout: flows that had one are counted apart.
"""

from __future__ import annotations

import argparse
import random
import time
from statistics import median

import attrs
import redis
import trio

from orchy.store.redis.keys import Keys
from tests.faults import collect
from tests.faults.load import Load
from tests.faults.observations import Line, Noted, read_log
from tests.faults.processes import Node, environment_check
from tests.faults.shapes import DELAY_SECONDS
from tests.faults.world import NAMESPACE, PARTITIONS, Settings, World, make_world, start_cluster

OWNED_SECONDS_MAX = 2.0
WAIT_SECONDS_MAX = 3.0

#: Flows started this long before and after a kill are measured.
BEFORE_SECONDS, AFTER_SECONDS = 3.0, 6.0
WARM_SECONDS = 5.0
LOOK_SECONDS = 0.02
GIVE_UP_SECONDS = 60.0
DRAIN_SECONDS = 15.0

#: Any node with a worker may hand out actions; only a partition's owner ends delays.
SHAPES = {"chain": 1, "delay": 1}

_keys = Keys(NAMESPACE)


@attrs.frozen
class Kill:
    """A kill, by the wall clock."""

    at: float
    victim: str
    owned_seconds: float


@attrs.frozen
class Flow:
    """One flow. `seconds`: from the client's first try to start it to its end, without its own delays.

    `lost`: one of its attempts was handed out and never reached a worker.
    """

    started_at: float
    seconds: float
    lost: bool


def main() -> int:
    """Exit code 1 if a kill was felt for longer than it should be."""
    parser = argparse.ArgumentParser("python -m tests.faults.kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--rate", type=float, default=40.0, help="flows started a second")
    parser.add_argument("--profile", choices=["default", "fast"], default="default", help="of the gossip")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", action="store_true", help="keep the logs")
    args = parser.parse_args()
    environment_check()
    settings = Settings(nodes=args.nodes, rate=args.rate, seed=args.seed)
    with make_world(settings, proxied=False, clustered=False, keep=[args.keep]) as world:
        for node in world.nodes:
            node.flags[node.flags.index("--gossip-profile") + 1] = args.profile
        kills, flows = trio.run(_run, world, args.kills)
    return _show(kills, flows)


async def _run(world: World, count: int) -> tuple[list[Kill], list[Flow]]:
    await start_cluster(world)
    log = world.folder / "client.jsonl"
    load = Load(world.rest, log, random.Random(world.settings.seed + 1), world.settings.rate, SHAPES)
    kills = []
    async with trio.open_nursery() as clients, trio.open_nursery() as starting:
        starting.start_soon(load.run, clients)
        for _ in range(count):
            await trio.sleep(WARM_SECONDS)
            victim = world.victim()
            at = time.time()
            victim.kill()
            kills.append(Kill(at, victim.name, await world.blocking(_owned_again, world, victim)))
            print(f"{victim.name} killed: its partitions owned again after {kills[-1].owned_seconds:.2f} s", flush=True)
            await trio.sleep(AFTER_SECONDS)
            victim.start()
            await world.whole()
        starting.cancel_scope.cancel()
    await trio.sleep(DRAIN_SECONDS)
    noted = [line for line in read_log(log) if line.what == "start"]
    near = {line.flow for line in noted if any(-BEFORE_SECONDS < line.at - kill.at < AFTER_SECONDS for kill in kills)}
    _, histories = await collect.read_flows(world.rest, near)
    first: dict[str, Noted] = {}
    for line in noted:
        first.setdefault(line.flow, line)
    return kills, [_flow(first[flow], lines) for flow, lines in histories.items()]


def _owned_again(world: World, victim: Node) -> float:
    """Seconds until all partitions have an owner other than the victim."""
    began = time.monotonic()
    with world.redis.client() as client:
        while time.monotonic() < began + GIVE_UP_SECONDS:
            if not {victim.name, ""}.intersection(_owners(client)):
                return time.monotonic() - began
            time.sleep(LOOK_SECONDS)
    raise RuntimeError(f"partitions of {victim.name} have no other owner after {GIVE_UP_SECONDS:.0f} s")


def _owners(client: redis.Redis) -> list[str]:
    """The holder of each partition; an empty text: none."""
    with client.pipeline(transaction=False) as pipe:
        for partition in range(PARTITIONS):
            pipe.hmget(_keys.owner(partition), "node", "until")
        pipe.time()
        *rows, (seconds, micros) = pipe.execute()
    now_ms = seconds * 1000 + micros / 1000
    return [node.decode() if float(until) > now_ms else "" for node, until in rows]


def _flow(start: Noted, lines: list[Line]) -> Flow:
    asked_for = DELAY_SECONDS if start.details["shape"] == "delay" else 0.0
    again = any((line.attempt or 1) > 1 for line in lines)
    return Flow(start.at, max(line.at for line in lines) - start.at - asked_for, again)


def _show(kills: list[Kill], flows: list[Flow]) -> int:
    good = [flow for flow in flows if not flow.lost]
    owned = sorted(kill.owned_seconds for kill in kills)
    seconds = sorted(flow.seconds for flow in good)
    usual = median(seconds)
    longest = [
        max(flow.seconds for flow in good if -BEFORE_SECONDS < flow.started_at - kill.at < AFTER_SECONDS)
        for kill in kills
    ]
    print(f"{len(kills)} kills, {len(flows)} flows around them, half of them took up to {usual:.2f} s")
    print(
        f"partitions owned again: half after {median(owned):.2f} s, all {owned[-1]:.2f} s; goal {OWNED_SECONDS_MAX} s"
    )
    print(f"longest flow of each kill: {', '.join(f'{value:.2f}' for value in longest)} s; goal {WAIT_SECONDS_MAX} s")
    print(f"flows with an attempt that died with its node, not counted: {len(flows) - len(good)}")
    return int(owned[-1] > OWNED_SECONDS_MAX or max(longest) > WAIT_SECONDS_MAX)


if __name__ == "__main__":
    raise SystemExit(main())
