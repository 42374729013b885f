"""The pieces that `python -m bench` runs, in the order in which it runs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import attrs

from bench.compare import celery_chain
from bench.flows import (
    burst,
    chain,
    fan,
    idle,
    memory,
    million,
    notify,
    poll,
    retention,
    script,
    starts,
    step,
    three,
    timers,
)
from bench.gossip import machine as gossip
from bench.harness.figures import Measured
from bench.harness.options import Options
from bench.harness.processes import Server, run_server
from bench.harness.redis_servers import run_redis
from bench.ring import moves as ring
from bench.scale import partitions, redis_cluster
from bench.store import commit, redis_limit
from bench.store.layouts import run as layouts


@attrs.frozen
class Piece:
    """One benchmark. `run` starts all that it needs, and yields each figure as soon as it is known."""

    name: str
    about: str
    run: Callable[[Options], Iterator[Measured]]
    by_default: bool = True


def _on_a_server(run: Callable[[Server, Options], Iterator[Measured]]) -> Callable[[Options], Iterator[Measured]]:
    """Give a benchmark a node of its own on an empty Redis."""

    def run_with_server(options: Options) -> Iterator[Measured]:
        with run_redis(options.appendfsync) as redis, run_server(redis) as server:
            yield from run(server, options)

    return run_with_server


_ALL = (
    Piece("three", "three user actions in a row, one flow at a time: latency", _on_a_server(three.run)),
    Piece("burst", "10,000 of three at once, started in batches: rate and costs", _on_a_server(burst.run)),
    Piece("celery", "three and a burst beside Celery's chain of three tasks", _on_a_server(celery_chain.run)),
    Piece("burst-plain", "a burst with single starts and a worker of Poll and Push", _on_a_server(burst.run_plain)),
    Piece("chain", "40 and 1,000 user actions in a row", _on_a_server(chain.run)),
    Piece("fan", "one action forks into 1,000 or 4,000, which join", _on_a_server(fan.run)),
    Piece("notify", "the notification workflow, its delay and wait 0.2 s", _on_a_server(notify.run)),
    Piece("script", "a flow that is one script", _on_a_server(script.run)),
    Piece("timers", "1,000 timers due within a second: how late they fire", _on_a_server(timers.run)),
    Piece("idle", "what a node with nothing to do costs", _on_a_server(idle.run)),
    Piece("memory", "a node with 100,000 flows running; a finished flow in Redis", _on_a_server(memory.run)),
    Piece("starts", "start requests of 1 to 1,000 flows on one connection", _on_a_server(starts.run)),
    Piece("poll", "handing out work: a Poll call, and a claim in the store", _on_a_server(poll.run)),
    Piece("slots", "how many attempts a worker should hold at a time", _on_a_server(burst.run_slots), by_default=False),
    Piece("retention", "nothing is left of flows whose retention is over", retention.run),
    Piece("million", "the cost of a step with 1,000,000 flows in the store, beside an empty one", million.run),
    Piece("partitions", "a burst against the number of partitions, and of nodes", partitions.run),
    Piece("redis-cluster", "a burst on a Redis Cluster of 3 masters, beside one Redis", redis_cluster.run),
    Piece("redis-limit", "the scripts of three as fast as one Redis takes them", redis_limit.run),
    Piece("commit", "commits of the store alone, without a node", commit.run),
    Piece("layouts", "layouts of the store as spikes, beside today's", layouts.run, by_default=False),
    Piece("step", "the flow machine alone, from an event to the commit", step.run),
    Piece("gossip", "a message of the gossip, and a crash noticed; all of it: nox -s gossip", gossip.run),
    Piece("ring", "how long the ring takes to compute, and what moves; all of it: nox -s ring", ring.run),
)
PIECES = {piece.name: piece for piece in _ALL}


def table() -> str:
    """Name and purpose of each, a line each."""
    width = max(map(len, PIECES))
    only = " (only when named)"
    return "\n".join(f"  {one.name:{width}}  {one.about}{'' if one.by_default else only}" for one in _ALL)
