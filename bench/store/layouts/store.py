"""A driver for the spikes: a flow is its log, or a hash of state and history; all else is the same for both.

Everything that is not of one flow is in a few keys of its partition: `own` (lease; it always exists: the anchor), `t`
(timers), `w` (attempts on their way to workers, or claimed), `ready`, `names`, `q:<action>`, `i:<listing>:<workflow>`
and `x:<listing>:<workflow>:<retention>`, where a listing is a letter. Each call declares every key that
its script touches.
"""

from __future__ import annotations

import json
import math
import os
import random
import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

import attrs
import msgspec
import trio
from msgspec.structs import replace

from bench.harness.work import STEP
from bench.store.layouts import records
from orchy.flow.runs import RunId
from orchy.store.flows import Commit, Listing
from orchy.store.limits import REMEMBERED_MS
from orchy.store.queues import QueueEntry
from orchy.store.redis import Redis
from orchy.store.redis.client import Script
from orchy.store.redis.connection import Argument
from orchy.store.timers import TimerKey, TimerKind

LUA = Path(__file__).with_name("lua")
_INCLUDE = re.compile(r'^--- @include "(\w+)"\n', re.MULTILINE)
PASSED_OVER_MAX = 200
_LETTERS = {Listing.ACTIVE: "a", Listing.COMPLETED: "c", Listing.FAILED: "f", Listing.CANCELLED: "x"}

Form = Literal["log", "hash"]
_pack = msgspec.msgpack.Encoder().encode


@cache
def script(name: str, form: Form) -> Script:
    """The script `lua/<name>.lua` for flows of a form."""

    def included(match: re.Match[str]) -> str:
        name = f"flow_{form}" if match[1] == "flow" else match[1]
        return (LUA / "includes" / f"{name}.lua").read_text("utf-8")

    return Script(f"{name} ({form})", _INCLUDE.sub(included, (LUA / f"{name}.lua").read_text("utf-8")))


@attrs.define
class Cached:
    """What a node knows of a flow: the tag that it ends with is its version."""

    incarnation: str
    tag: str = ""
    created_ms: int = 0
    lines: int = 0
    commits: int = 0
    folded: records.Folded = attrs.field(factory=records.Folded)
    last_block: records.Folded | None = None
    #: When the flow's timer is due at the latest, the store's clock at the last commit, and what that one has set.
    wake_ms: float = math.inf
    seen_ms: int = 0
    wake_after_ms: int | None = None


@attrs.frozen
class Refused:
    """A commit that was not made: the tag that was found, or that a timer had moved."""

    found: str


@attrs.frozen
class Taken:
    """An attempt that a claim handed out, with what a give-back needs."""

    partition: int
    attempt: str
    timeout_ms: int
    body: bytes
    says: bytes


@attrs.define
class Layout:
    """A store of one form. `several`: one call carries commits of several partitions (a single server only).

    `timers`: one a flow, which is due at the earliest of all; for a leased attempt "one", at the earlier of lease and
    timeout; or "two". Only commits know the last two forms. `finished`: ended flows stay in an index by creation, or
    are listed by the retention list, by their end. `block_every`: so many commits of a flow are folded into a block;
    0: never.
    """

    redis: Redis
    namespace: str
    form: Form = "log"
    batch: int = 32
    several: bool = True
    timers: Literal["flow", "one", "two"] = "flow"
    finished: Literal["list", "index"] = "list"
    block_every: int = 0
    trims: bool = True
    cache: dict[str, Cached] = attrs.field(factory=dict)
    epochs: dict[int, int] = attrs.field(factory=dict)
    _random: random.Random = attrs.field(factory=lambda: random.Random(os.urandom(16)))

    def key(self, partition: int, name: str) -> bytes:
        """A key of a partition."""
        return f"{{{self.namespace}:{partition}}}:{name}".encode()

    async def own(self, partitions: Iterable[int]) -> None:
        """Take leases, so that each partition has its anchor."""
        for partition in partitions:
            key = self.key(partition, "own")
            self.epochs[partition] = await self.redis.execute("HINCRBY", key, "epoch", 1, key=key, safe=True)

    # Commits.

    async def commit_all(self, commits: Sequence[Commit]) -> list[Refused | None]:
        """Make each commit for itself, no two of them of one flow; None: it was made."""
        outcomes: dict[str, Refused | None] = {}
        calls = [commits[first : first + self.batch] for first in range(0, len(commits), self.batch)]
        if not self.several or self.redis.is_cluster:
            calls = [part for call in calls for part in by_partition(call)]

        async def send(call: Sequence[Commit]) -> None:
            outcomes.update(await self._send(call))

        if len(calls) == 1:
            await send(calls[0])
        else:
            async with trio.open_nursery() as nursery:
                for call in calls:
                    nursery.start_soon(send, call)
        return [outcomes[commit.flow_id] for commit in commits]

    async def _send(self, commits: Sequence[Commit]) -> dict[str, Refused | None]:
        keys, args = self.arguments(commits)
        # Safe: a commit that is found made is no refusal.
        reply = await self.redis.script(script("commit", self.form), keys, args, safe=True)
        return self.taken(commits, reply)

    def arguments(self, commits: Sequence[Commit]) -> tuple[list[bytes], list[Argument]]:
        """What one call of the script gets. The cache is taken along, as if all of it were made."""
        table: dict[bytes, int] = {}
        packed: list[Argument] = [REMEMBERED_MS, "LT" if self.timers == "flow" else "", len(commits)]
        entries: list[Argument] = []  # beside the packed commits: Lua's msgpack does not know binary values
        packed += [_pack(self._packed(commit, table, entries, len(commits) + 4)) for commit in commits]
        return list(table), packed + entries

    def taken(self, commits: Sequence[Commit], reply: list[Any]) -> dict[str, Refused | None]:
        """The outcomes that a reply tells. What was refused is forgotten: it has to be loaded."""
        now, soonest, refused = reply
        outcomes: dict[str, Refused | None] = dict.fromkeys(commit.flow_id for commit in commits)
        for number, found in zip(refused[::2], refused[1::2], strict=True):
            flow_id = commits[number - 1].flow_id
            outcomes[flow_id] = Refused(found.decode())
            self.cache.pop(flow_id, None)
        for commit in commits:
            if flow := self.cache.get(commit.flow_id):
                flow.created_ms = flow.created_ms or now
                flow.seen_ms = now
                if flow.wake_after_ms is not None:
                    flow.wake_ms, flow.wake_after_ms = soonest + flow.wake_after_ms, None
        return outcomes

    def _packed(self, commit: Commit, table: dict[bytes, int], entries: list[Argument], first_entry: int) -> list[Any]:
        def place(name: str) -> int:
            return table.setdefault(self.key(commit.partition, name), len(table) + 1)

        place("own")
        tag = records.new_tag(self._random)
        if not commit.expected_version:
            self.cache[commit.flow_id] = Cached(incarnation=tag)
        flow = self.cache[commit.flow_id]
        was, flow.tag = flow.tag, tag
        more: dict[str, Any] = {}
        if self.block_every and flow.commits and flow.commits % self.block_every == 0:
            flow.folded.tag, flow.folded.created_ms, flow.folded.incarnation = was, flow.created_ms, flow.incarnation
            block = flow.folded.block(flow.last_block).decode()
            more["block"] = [place(f"s:{commit.flow_id}"), block]
            flow.last_block = attrs.evolve(flow.folded, finished=dict(flow.folded.finished))
        facts: Any = records.encode_facts(records.facts_of(commit, flow.folded))
        rest: list[Any] = []
        if self.form == "hash":
            facts = [part for name, value in commit.fields.items() for part in (name, value.decode())]
            history = [line.decode() for line in commit.history]
            history += [f'["H",{e.action_id},{e.attempt},{json.dumps(e.worker)}]' for e in commit.enqueue if e.worker]
            rest = [history, flow.lines, list(commit.removed_fields) or False]
            flow.lines += len(history)
        flow.commits += 1
        ended = [self._in_work(flow, key) for key in commit.cancel_timers if key.kind is TimerKind.TIMEOUT]
        queued: list[Any] = []
        for entry in commit.enqueue:
            if entry.worker is None:
                attempt = self._in_work(flow, _attempt(commit, entry))
                where = [place(f"q:{entry.action_name}"), place("ready"), entry.action_name]
                queued += [*where, attempt, first_entry + len(entries)]
                entries.append(self.entry(attempt, entry))
        if commit.fired_timers:
            more["fired"] = [part for key in commit.fired_timers for part in (self._in_work(flow, key), "")]
        if any(line.startswith(b'["P"') for line in commit.history):
            more["pause"] = commit.flow_id
        if commit.unpark:
            more["resume"] = [commit.flow_id, *self._parked(commit, flow, place)]
        elif flow.folded.paused and commit.retain_ms is not None:  # cancelled during the pause
            more["resume"] = [commit.flow_id]
        settings, cancelled = self._timers(commit, flow)
        listing, retention = self._listed(commit, flow, place)
        return [
            place(f"f:{commit.flow_id}"),
            was,
            tag,
            facts,
            place("w") if ended or queued or more else 0,
            ended or False,
            place("t") if settings or cancelled else 0,
            settings or False,
            cancelled or False,
            queued or False,
            listing,
            retention,
            more or False,
            *rest,
        ]

    def _timers(self, commit: Commit, flow: Cached) -> tuple[list[Any], list[str]]:
        """Timers to set and to cancel."""
        attempts = [(_attempt(commit, entry), entry) for entry in commit.enqueue if entry.worker is not None]
        if self.timers == "flow":  # lazily: it may be due before anything is, never after
            if commit.retain_ms is not None:
                return [], [commit.flow_id]
            dues = [timer.after_ms for timer in commit.set_timers]
            dues += [min(entry.timeout_ms, entry.lease_ms or entry.timeout_ms) for _, entry in attempts]
            if not dues or flow.wake_ms <= flow.seen_ms + min(dues):
                return [], []
            flow.wake_after_ms = min(dues)
            return [flow.wake_after_ms, commit.flow_id], []
        settings: list[Any] = [part for timer in commit.set_timers for part in (timer.after_ms, str(timer.key))]
        for key, entry in attempts:
            lease = entry.lease_ms if 0 < entry.lease_ms < entry.timeout_ms else 0
            if lease and self.timers == "two":
                settings += [lease, str(replace(key, kind=TimerKind.LOST))]
            settings += [lease if lease and self.timers == "one" else entry.timeout_ms, str(key)]
        cancelled = [str(key) for key in commit.cancel_timers]
        if self.timers == "two":
            leased = [key for key in commit.cancel_timers if key.kind is TimerKind.TIMEOUT]
            cancelled += [str(replace(key, kind=TimerKind.LOST)) for key in leased]
        return settings, cancelled

    def _listed(self, commit: Commit, flow: Cached, place: Callable[[str], int]) -> tuple[Any, Any]:
        """The change of listing, and the entry of the retention list."""
        before, name = commit.listed_before, f"{_LETTERS[commit.listed_after]}:{commit.workflow}"
        listing: list[Any] | bool = False
        if commit.listed_after is not before:
            entered = place(f"i:{name}") if before is None or self.finished == "index" else 0
            left = place(f"i:{_LETTERS[before]}:{commit.workflow}") if before else 0
            listing = [left, entered, commit.flow_id, flow.created_ms, place("names") if entered else 0, name]
        if not commit.retain_ms:
            return listing, commit.retain_ms == 0
        name = f"{name}:{commit.retain_ms}"
        return listing, [place(f"x:{name}"), f" {flow.tag} {commit.flow_id}", place("names"), name, self.trims]

    def _parked(self, commit: Commit, flow: Cached, place: Callable[[str], int]) -> list[Any]:
        """The attempts that are with the workers: a claim may have set aside their entries."""
        parked: list[Any] = []
        for run_id, attempt in flow.folded.running.items():
            key = TimerKey(TimerKind.TIMEOUT, RunId(run_id), attempt, commit.flow_id)
            # All of the generated work is of one action.
            parked += [place(f"q:{STEP}"), place("ready"), STEP, self._in_work(flow, key)]
        return parked

    @staticmethod
    def _in_work(flow: Cached, key: TimerKey) -> str:
        return f"{key.action_id}:{key.attempt}:{flow.incarnation}:{key.flow_id}"

    @staticmethod
    def entry(attempt: str, entry: QueueEntry) -> bytes:
        """A queue entry: whose it is, its timeout, its body."""
        return f"{attempt}\n{entry.timeout_ms}\n".encode() + entry.body

    # Work.

    async def claim(self, action: str, partitions: Sequence[int], limit: int, worker: str) -> list[Taken]:
        """Hand out attempts; partitions are asked in the order given."""
        groups = [[partition] for partition in partitions] if self.redis.is_cluster else [partitions]
        taken: list[Taken] = []
        for group in groups:
            if len(taken) >= limit:
                break
            names = ("own", "t", "w", "ready", f"q:{action}")
            keys = [self.key(partition, name) for partition in group for name in names]
            args: list[Argument] = [action, limit - len(taken), json.dumps(worker), PASSED_OVER_MAX]
            got = await self.redis.script(script("claim", self.form), keys, args, safe=False)
            for number, attempt, timeout, body, says in got:
                taken.append(Taken(group[number - 1], attempt.decode(), int(timeout), body, says))
        return taken

    async def give_back(self, action: str, taken: Sequence[Taken]) -> int:
        """Put back attempts."""
        groups: dict[int, list[Taken]] = {}
        for one in taken:
            groups.setdefault(one.partition if self.redis.is_cluster else 0, []).append(one)
        given_back = 0
        for group in groups.values():
            keys: list[bytes] = []
            args: list[Argument] = []
            for one in group:
                keys += [self.key(one.partition, name) for name in ("own", "w", "ready", f"q:{action}")]
                entry = f"{one.attempt}\n{one.timeout_ms}\n".encode() + one.body
                args += [one.attempt, action, one.says, entry]
            given_back += await self.redis.script(script("give_back", self.form), keys, args, safe=False)
        return given_back

    async def scan(self, partitions: Sequence[int], limit: int = 100, lease_ms: int = 10_000) -> list[list[Any]]:
        """Due timers, moved forward."""
        replies: list[list[Any]] = []
        for group in [[one] for one in partitions] if self.redis.is_cluster else [partitions]:
            keys = [self.key(partition, name) for partition in group for name in ("own", "t", "ready")]
            args: list[Argument] = [limit, lease_ms, *(self.epochs[partition] for partition in group)]
            replies += await self.redis.script(script("scan", self.form), keys, args, safe=True)
        return replies

    async def expire(self, partition: int, limit: int = 100) -> int:
        """Remove flows whose retention is over: first what is due is read, then removed with all keys declared."""
        names_key, own = self.key(partition, "names"), self.key(partition, "own")
        names = [name.decode() for name in await self.redis.execute("SMEMBERS", names_key, key=own, safe=True)]
        lists = [name for name in names if name.count(":") == 2]
        if not lists:
            return 0
        epoch = self.epochs[partition]
        retentions: list[Argument] = [name.rpartition(":")[2] for name in lists]
        keys = [own, *(self.key(partition, f"x:{name}") for name in lists)]
        over = await self.redis.script(script("over", self.form), keys, [limit, epoch, *retentions], safe=True)
        removed = 0
        for name, entries in zip(lists, over, strict=False):
            if entries:
                flows = [entry.split(b" ", 2)[2].decode() for entry in entries]
                keys = [own, self.key(partition, f"x:{name}"), self.key(partition, f"i:{name.rpartition(':')[0]}")]
                keys += [self.key(partition, f"{kind}:{flow}") for flow in flows for kind in "fs"]
                args: list[Argument] = [epoch, REMEMBERED_MS, *entries]
                removed += await self.redis.script(script("remove", self.form), keys, args, safe=True)
        return removed

    async def load(self, partition: int, flow_id: str) -> records.Folded | None:
        """The flow, folded from its log; the cache has it from now on."""
        keys = [self.key(partition, name) for name in ("own", f"f:{flow_id}", f"s:{flow_id}")]
        log, blocks = await self.redis.script(script("load", self.form), keys, [], safe=True)
        if log in (b"", b"-"):
            return None
        folded = records.fold(log, blocks)
        self.cache[flow_id] = Cached(folded.incarnation, folded.tag, folded.created_ms, folded=folded)
        return folded


def _attempt(commit: Commit, entry: QueueEntry) -> TimerKey:
    return TimerKey(TimerKind.TIMEOUT, entry.action_id, entry.attempt, commit.flow_id)


def by_partition(commits: Sequence[Commit]) -> list[list[Commit]]:
    """The commits of each partition."""
    groups: dict[int, list[Commit]] = {}
    for commit in commits:
        groups.setdefault(commit.partition, []).append(commit)
    return list(groups.values())
