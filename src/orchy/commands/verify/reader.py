"""Reads a namespace straight from Redis. Never writes; each call is short, and about one partition.

A flow is read consistently: its version and the length of its history are read again at the end, and if either has
changed, the flow is read again. Queues are read from their ends to their heads, and before the timers: what a claim
moves from a queue to a timeout meanwhile is seen twice, never missed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import attrs
import redis
from redis.cluster import RedisCluster

from orchy.commands.verify.history import HistoryFold
from orchy.commands.verify.rules import Entry, FlowFacts, decode, timer_of
from orchy.flow.execution import Flow, Phase
from orchy.store.flows import Listing
from orchy.store.redis.keys import Keys

SCAN_COUNT = 500
ITEMS_PER_CALL = 500
#: How often a flow is read again because it has moved. One that moves so much is not stuck.
READS_MAX = 5
DEFINITIONS_MAX = 1_000

IsQueued: TypeAlias = Callable[[int, Entry], bool]

_BEGIN = """
local h = KEYS[1] .. 'h:' .. ARGV[1]
local flow = redis.call('HGETALL', KEYS[1] .. 'f:' .. ARGV[1])
return {flow, redis.call('LLEN', h), redis.call('LRANGE', h, 0, ARGV[2] - 1)}
"""
# ARGV: flow id, workflow, how many timers, the timers
_END = """
local p, id, workflow = KEYS[1], ARGV[1], ARGV[2]
local timers, listed, retained = {}, {}, {}
for i = 4, 3 + ARGV[3] do
  timers[#timers + 1] = redis.call('ZSCORE', p .. 't', ARGV[i]) or ''
end
for _, listing in ipairs({'active', 'completed', 'failed', 'cancelled'}) do
  listed[#listed + 1] = redis.call('ZSCORE', p .. 'i:' .. listing .. ':' .. workflow, id) or ''
  retained[#retained + 1] = redis.call('ZSCORE', p .. 'x', listing .. ':' .. id .. ':' .. workflow) or ''
end
return {
  redis.call('HGET', p .. 'f:' .. id, 'v') or '', redis.call('LLEN', p .. 'h:' .. id),
  redis.call('LRANGE', p .. 'k:' .. id, 0, -1), timers, listed, retained,
  redis.call('SISMEMBER', p .. 'names', workflow),
  redis.call('SMEMBERS', p .. 'a:' .. id), redis.call('ZSCORE', p .. 'u', id) or ''
}
"""


@attrs.frozen
class Key:
    """One key of a partition: `kind` is the part after the hash tag up to the next colon, `rest` what follows."""

    partition: int
    kind: str
    rest: str


@attrs.frozen
class _Action:
    """What the rules need of an action's definition."""

    name: str
    has_timeout: bool


@attrs.frozen
class FlowScan:
    """A flow and its facts. `flow` None: its fields can't be decoded. `facts` None: there is no such flow."""

    flow: Flow | None
    facts: FlowFacts | None


class Reader:
    """One namespace."""

    def __init__(self, client: redis.Redis | RedisCluster, namespace: str) -> None:
        self._client: Any = client
        self._keys = Keys(namespace)
        self._namespace = namespace
        self._pattern = re.compile(rb"\{" + re.escape(namespace).encode() + rb":(\d+)\}:([a-z]+)(?::(.*))?", re.DOTALL)
        self._definitions: dict[tuple[str, int], Mapping[int, _Action] | None] = {}

    def partitions(self) -> int | None:
        """The number of partitions; None: nobody has used the namespace."""
        text = self._client.hget(self._keys.settings(), "partitions")
        return None if text is None else int(text)

    def keys(self, kind: str = "") -> Iterator[Key]:
        """All keys of all partitions, or those of one kind; the same key may come twice."""
        pattern = f"{{{self._namespace}:*}}:{kind}*"
        for name in self._client.scan_iter(match=pattern, count=SCAN_COUNT):
            match = self._pattern.fullmatch(name)
            if match is not None:  # or it belongs to a namespace whose name begins with this one's
                rest = (match[3] or b"").decode("utf-8", "replace")
                yield Key(int(match[1]), match[2].decode(), rest)

    # Many at a time.

    def entries(self, partition: int, action_name: str) -> Iterator[list[bytes]]:
        """A queue in batches, from its end to its head, as claims take from the head and new entries go to the end."""
        key = self._keys.partition(partition) + b"q:" + action_name.encode()
        last = -1
        while texts := self._client.lrange(key, last - ITEMS_PER_CALL + 1, last):
            yield texts
            last -= ITEMS_PER_CALL

    def timers(self, partition: int) -> Iterator[list[str]]:
        """All timers, in batches."""
        return self._members(self._keys.timers(partition))

    def listed(self, partition: int, listing: str, workflow: str) -> Iterator[list[str]]:
        """The flows of an index, in batches."""
        return self._members(self._keys.partition(partition) + f"i:{listing}:{workflow}".encode())

    def retained(self, partition: int) -> Iterator[list[str]]:
        """The planned removals, in batches."""
        return self._members(self._keys.partition(partition) + b"x")

    def quarantined(self, partition: int) -> Iterator[list[str]]:
        """The flows in quarantine, in batches."""
        return self._members(self._keys.partition(partition) + b"u")

    def _members(self, key: bytes) -> Iterator[list[str]]:
        batch: list[str] = []
        for member, _ in self._client.zscan_iter(key, count=ITEMS_PER_CALL):
            batch.append(member.decode("utf-8", "replace"))
            if len(batch) >= ITEMS_PER_CALL:
                yield batch
                batch = []
        if batch:
            yield batch

    def flows(self, partition: int, flow_ids: Sequence[str]) -> dict[str, Flow | None]:
        """These flows without history, timers and entries; None for one that does not exist."""
        wanted = list(dict.fromkeys(flow_ids))
        with self._client.pipeline(transaction=False) as pipe:
            for flow_id in wanted:
                pipe.hgetall(self._keys.flow(partition, flow_id))
            return {
                flow_id: decode(flow_id, _text(fields)) for flow_id, fields in zip(wanted, pipe.execute(), strict=True)
            }

    # Single facts of a partition.

    def set_of(self, partition: int, name: str) -> set[str]:
        """The members of `ready` or `names`."""
        key = self._keys.partition(partition) + name.encode()
        return {member.decode("utf-8", "replace") for member in self._client.smembers(key)}

    def exists(self, partition: int, *names: str) -> bool:
        """Whether any of these keys of a partition exists."""
        return any(self._client.exists(self._keys.partition(partition) + name.encode()) for name in names)

    def has_timer(self, partition: int, member: str) -> bool:
        """Whether a timer is set."""
        return self._client.zscore(self._keys.timers(partition), member) is not None

    def has_member(self, partition: int, name: str, member: str) -> bool:
        """Whether a sorted set has a member."""
        return self._client.zscore(self._keys.partition(partition) + name.encode(), member) is not None

    def lease(self, partition: int) -> dict[str, bytes]:
        """The fields of a partition's lease."""
        return _text(self._client.hgetall(self._keys.owner(partition)))

    def find_entry(self, partition: int, entry: Entry) -> bool:
        """Whether a queue has an entry for this attempt."""
        head = f"{entry}:".encode()
        return any(text.startswith(head) for texts in self.entries(partition, entry.action_name) for text in texts)

    # A flow.

    def read(self, partition: int, flow_id: str, is_queued: IsQueued) -> FlowScan | None:
        """A flow with all that belongs to it; None if it kept moving.

        `is_queued` says whether an attempt is in a queue: `find_entry`, or something faster.
        """
        prefix = self._keys.partition(partition)
        for _ in range(READS_MAX):
            pairs, length, lines = self._client.eval(_BEGIN, 1, prefix, flow_id, ITEMS_PER_CALL)
            fields = _text(dict(zip(pairs[::2], pairs[1::2], strict=True)))
            if not fields:
                return FlowScan(None, None)
            flow = decode(flow_id, fields)
            if flow is None:
                return FlowScan(None, FlowFacts(fields, HistoryFold(), (), (), (), {}, (), True, {}))
            fold = self._fold(prefix, flow_id, length, lines)
            actions = self._actions(flow.workflow, flow.workflow_version)
            queued = {
                (action_id, running.attempt)
                for action_id, running in flow.running.items()
                if running.phase is Phase.QUEUED
                and action_id in (actions or {})
                and is_queued(partition, Entry(flow_id, action_id, running.attempt, (actions or {})[action_id].name))
            }
            timers = [key for id, running in flow.running.items() if (key := timer_of(flow_id, id, running))]
            args = [flow_id, flow.workflow, len(timers), *map(str, timers)]
            version, now_length, parked, scores, listed, retained, named, aside, quarantined = self._client.eval(
                _END, 1, prefix, *args
            )
            set_aside = {member.decode("utf-8", "replace") for member in aside}
            if version == fields["v"] and now_length == length:
                facts = FlowFacts(
                    fields,
                    fold,
                    queued,
                    parked,
                    [key for key, score in zip(timers, scores, strict=True) if score != b"" or str(key) in set_aside],
                    {one: int(float(score)) for one, score in zip(Listing, listed, strict=True) if score != b""},
                    [one for one, score in zip(Listing, retained, strict=True) if score != b""],
                    bool(named),
                    None if actions is None else {id: action.has_timeout for id, action in actions.items()},
                    None if quarantined == b"" else int(float(quarantined)),
                )
                return FlowScan(flow, facts)
        return None

    def _fold(self, prefix: bytes, flow_id: str, length: int, lines: Sequence[bytes]) -> HistoryFold:
        fold = HistoryFold()
        start = 0
        while lines:
            for line in lines:
                fold.take(line)
            start += len(lines)
            if start >= length:
                break
            lines = self._client.lrange(prefix + b"h:" + flow_id.encode(), start, start + ITEMS_PER_CALL - 1)
        return fold

    def _actions(self, name: str, version: int) -> Mapping[int, _Action] | None:
        """The actions of a definition; None if it does not exist."""
        key = (name, version)
        if key not in self._definitions:
            if len(self._definitions) >= DEFINITIONS_MAX:
                self._definitions.clear()
            source = self._client.hget(self._keys.workflow(name), str(version))
            self._definitions[key] = None if source is None else _read_actions(source)
        return self._definitions[key]


def _read_actions(source: bytes) -> Mapping[int, _Action]:
    """The actions of a definition, which was validated when it was saved."""
    actions = json.loads(source)["actions"]
    return {action["id"]: _Action(action["name"], bool(action.get("timeoutSeconds"))) for action in actions}


def _text(fields: Mapping[bytes, bytes]) -> dict[str, bytes]:
    return {name.decode("utf-8", "replace"): value for name, value in fields.items()}
