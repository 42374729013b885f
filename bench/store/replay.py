"""Records the scripts of *three* as the bytes that a node sends, and replays them with a minimal client."""

from __future__ import annotations

import socket
import uuid
from collections.abc import Sequence
from typing import Any, cast

import attrs
import hiredis
import trio
from msgspec.structs import replace

from bench.harness.commits import graph_of, three_commits
from bench.harness.processes import PARTITIONS
from bench.harness.work import STEP, chain
from bench.store.opening import NAMESPACE
from orchy.ring import partition_of
from orchy.store.flows import Commit
from orchy.store.redis import Redis, RedisStore
from orchy.store.redis.client import Script
from orchy.store.redis.connection import pack

WORKER = "bench"
BATCH = 100
PARTITIONS_PER_CLAIM = 32
#: Batches in flight, so that Redis never waits for one.
BATCHES_AHEAD = 2
RECEIVE_BYTES = 1 << 20


class _Recorder:
    """Stands in for a Redis client: keeps what would be sent, and answers that all went well."""

    is_cluster = False

    def __init__(self) -> None:
        self.packed: list[bytes] = []
        self.scripts: dict[str, Script] = {}

    async def script(self, script: Script, keys: Sequence[bytes], args: Sequence[Any], *, safe: bool) -> Any:
        self.scripts[script.name] = script
        self.packed.append(pack("EVALSHA", script.sha1, len(keys), *keys, *args))
        await trio.lowlevel.checkpoint()
        return [[], [], [], [], 0]

    async def script_each(self, script: Script, calls: Sequence[tuple[Sequence[bytes], Sequence[Any]]]) -> list[Any]:
        for keys, args in calls:
            await self.script(script, keys, args, safe=False)
        return [[1, 0, [], 0] for _ in calls]


@attrs.frozen
class Recording:
    """Batches of packed commands, each with its kind, and the scripts that they call."""

    batches: Sequence[tuple[str, Sequence[bytes]]]
    scripts: Sequence[Script]

    @property
    def commands(self) -> int:
        """The number of commands."""
        return sum(len(batch) for _, batch in self.batches)


def record(flows: int, *, queued: bool) -> Recording:
    """Record flows a hundred at a time, step by step.

    If `queued`, work passes through queues and claims of a hundred; else the commits hand it out, as they do for a
    worker with a stream.
    """
    return trio.run(_record, flows, queued)


async def _record(flows: int, queued: bool) -> Recording:
    graph = graph_of(chain("three", 3))
    recorder = _Recorder()
    store = RedisStore(cast("Redis", recorder), NAMESPACE)
    batches: list[tuple[str, list[bytes]]] = []

    def cut(name: str) -> None:
        batches.append((name, recorder.packed))
        recorder.packed = []

    for first in range(0, flows, BATCH):
        ids = [str(uuid.uuid4()) for _ in range(min(BATCH, flows - first))]
        each = [three_commits(graph, flow_id, partition_of(flow_id, PARTITIONS)) for flow_id in ids]
        for number, stage in enumerate(zip(*each, strict=True)):
            await store.commit_all([one if queued else _handed_out(one) for one in stage])
            cut(("start", "step", "step", "last step")[number])
            if queued and stage[0].enqueue:
                for partitions in (range(PARTITIONS_PER_CLAIM), range(PARTITIONS_PER_CLAIM, PARTITIONS)):
                    await store.claim(STEP, partitions, BATCH, WORKER)
                cut("claim")
    return Recording(batches, list(recorder.scripts.values()))


def _handed_out(commit: Commit) -> Commit:
    return replace(commit, enqueue=[replace(entry, worker=WORKER) for entry in commit.enqueue])


def replay(recording: Recording, port: int, *, ahead: int = BATCHES_AHEAD) -> None:
    """Send all commands. Raises SystemExit if Redis refuses one."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        reader = hiredis.Reader()
        for script in recording.scripts:
            connection.sendall(pack("SCRIPT", "LOAD", script.source))
            _receive(connection, reader, 1)
        waiting: list[int] = []
        for _, batch in recording.batches:
            connection.sendall(b"".join(batch))
            waiting.append(len(batch))
            if len(waiting) >= ahead:
                _receive(connection, reader, waiting.pop(0))
        _receive(connection, reader, sum(waiting))


def _receive(connection: socket.socket, reader: hiredis.Reader, count: int) -> None:
    while count:
        reply = reader.gets()
        if reply is False:
            reader.feed(connection.recv(RECEIVE_BYTES))
            continue
        count -= 1
        if isinstance(reply, hiredis.ReplyError) or (isinstance(reply, list) and reply[0] == -1):
            raise SystemExit(f"Redis refused what was recorded: {reply}")
