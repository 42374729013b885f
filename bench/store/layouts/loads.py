"""Loading a flow that is not cached: a long chain, as today's hash, as a log, and as a log with blocks."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator

import attrs

from bench.harness.commits import graph_of, new_flow, results, take
from bench.harness.work import chain
from bench.store.layouts import records
from bench.store.layouts.store import Layout
from bench.store.opening import NAMESPACE
from orchy.flow.codec import decode_flow
from orchy.flow.events import Started
from orchy.store.flows import Commit
from orchy.store.redis import Redis, RedisStore

BLOCK_RECORDS = 128


@attrs.frozen
class Load:
    """A load: with the call, without it, and the bytes that came."""

    form: str
    ms: float
    fold_ms: float
    size: int


def chain_commits(length: int) -> Iterator[Commit]:
    """The commits of a chain that has its last action still to do."""
    graph = graph_of(chain("chain", length))
    flow, commit = take(graph, new_flow(graph, "chain"), [Started()], 0, 0)
    yield commit
    for number in range(1, length):
        flow, commit = take(graph, flow, results(flow), number, 0)
        yield commit


async def loads(redis: Redis, store: RedisStore, length: int) -> list[Load]:
    """Each form's load, once. The flows of before are removed."""
    await redis.execute("FLUSHALL", safe=True)
    commits = list(chain_commits(length))
    found = []
    for commit in commits:
        await store.commit(commit)
    gc.collect()
    gc.freeze()
    began = time.perf_counter()
    stored = await store.load(0, "chain")
    fetched = time.perf_counter()
    assert stored is not None
    flow = decode_flow("chain", stored.fields)
    done = time.perf_counter()
    size = sum(len(name) + len(value) for name, value in stored.fields.items())
    found.append(Load("today", (done - began) * 1e3, (done - fetched) * 1e3, size))
    for form, every in (("log", 0), (f"log, a block each {BLOCK_RECORDS:,} records", BLOCK_RECORDS)):
        await redis.execute("FLUSHALL", safe=True)
        layout = Layout(redis, NAMESPACE, block_every=every)
        for commit in commits:
            assert await layout.commit_all([commit]) == [None]
        keys = [layout.key(0, name) for name in ("f:chain", "s:chain")]
        log, blocks = [await redis.execute("GET", key, key=key, safe=True) or b"" for key in keys]
        folded = layout.cache["chain"].folded
        layout.cache.clear()
        gc.collect()
        gc.freeze()  # what the benchmark has made is none of the load's business
        began = time.perf_counter()
        loaded = await layout.load(0, "chain")
        took = time.perf_counter() - began
        assert loaded is not None
        assert {run: loaded.result(run) for run in loaded.finished} == folded.finished
        assert folded.finished == {run: (done.attempt, done.output) for run, done in flow.finished.items()}
        rest = log[int(blocks[-15:-3]) :] if blocks else log
        began = time.perf_counter()
        records.fold(rest, blocks)
        found.append(Load(form, took * 1e3, (time.perf_counter() - began) * 1e3, len(rest) + len(blocks)))
    whole = folded.block(None) + b'000000000000"]\n'
    began = time.perf_counter()
    records.fold(b"", whole)
    found.append(Load("one snapshot of all of it", 0.0, (time.perf_counter() - began) * 1e3, len(whole)))
    return found
