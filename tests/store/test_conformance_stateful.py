"""The stores on Redis against the reference: after arbitrary calls, all observable state is the same.

The reference's clock follows the server's: it is set to the time of each commit. Durations are either zero or very
long, so that no result depends on the time that a step takes. State that the port does not show is checked in the keys:
they are exactly those that the reference's state requires, so nothing is left behind.

A script can't be interrupted, but its reply can be lost: then a safe call was made twice, and an unsafe one once, with
an unknown outcome for the caller.
"""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import attrs
import hiredis
import pytest
import trio
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from msgspec.structs import replace

from orchy.errors import OutcomeUnknown, TimerMoved, VersionConflict
from orchy.store.flows import Commit, Listing
from orchy.store.leases import Lease
from orchy.store.limits import REMEMBERED_MS
from orchy.store.memory.store import MemoryStore
from orchy.store.queues import Claimed, QueueEntry
from orchy.store.redis import Redis, RedisSettings, RedisStore, open_redis
from orchy.store.redis.connection import Connection, ConnectionLost
from orchy.store.timers import TimerKey, TimerSetting

HOUR_MS = 3_600_000
PARTITIONS = (0, 1, 2)
FLOWS = [f"flow-{number}" for number in range(5)]
WORKFLOWS = ("orders", "a:b")
ACTIONS = ("pay", "ship")
NODES = ("node-1", "node-2")
ENDS = (Listing.COMPLETED, Listing.FAILED, Listing.CANCELLED)
UNSAFE = ("commit", "claim", "give_back")
HANG_SECONDS = 30
EXAMPLES = {"redis": 40, "cluster": 15}
NAMESPACES = itertools.count()
BODIES = itertools.count()

flow_ids = st.sampled_from(FLOWS)
partitions = st.lists(st.sampled_from(PARTITIONS), min_size=1, max_size=3, unique=True)
action_ids = st.integers(1, 3)
attempts = st.integers(1, 2)
durations = st.sampled_from([0, HOUR_MS])
running_fields = st.dictionaries(
    action_ids.map("r:{}".format), st.builds("{}:{}:".format, attempts, st.sampled_from("qqqrd")).map(str.encode)
)
histories = st.lists(st.sampled_from([b"[]", b'["C",1,1]']), max_size=2)


@st.composite
def transitions(draw: st.DrawFn) -> dict[str, Any]:
    """A commit, without the arguments that depend on the flow's state."""
    flow_id = draw(flow_ids)
    keys = st.builds(TimerKey, st.sampled_from("dwrtle"), action_ids, attempts, st.just(flow_id))
    fields = {"m": draw(st.binary(min_size=1, max_size=3)), **draw(running_fields)}
    removed = set(draw(st.lists(action_ids.map("r:{}".format), max_size=2))) - fields.keys()
    paused = draw(st.booleans())
    if paused:
        fields["p"] = b"1"
    else:
        removed.add("p")
    workers = st.sampled_from([None, None, 'some "worker"'])
    leases = st.sampled_from([0, HOUR_MS // 2, HOUR_MS])
    entries = st.tuples(st.sampled_from(ACTIONS), action_ids, attempts, workers, leases)
    return {
        "flow_id": flow_id,
        "fields": fields,
        "removed_fields": sorted(removed),
        "history": draw(histories),
        "enqueue": [
            QueueEntry(action, action_id, attempt, HOUR_MS, b"body %d" % next(BODIES), worker, lease_ms)
            for action, action_id, attempt, worker, lease_ms in draw(st.lists(entries, max_size=3))
        ],
        "set_timers": draw(st.lists(st.builds(TimerSetting, keys, durations), max_size=2)),
        "cancel_timers": draw(st.lists(keys, max_size=2)),
        "fired_timers": draw(st.sampled_from([[], [], draw(st.lists(keys, max_size=1))])),
        "unpark": not paused,
    }


@attrs.define
class Portal:
    """A Trio loop in another thread, with an open client."""

    redis: Redis
    token: trio.lowlevel.TrioToken

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """`await function(*args)` in that thread."""

        async def bounded() -> Any:
            with trio.fail_after(HANG_SECONDS):
                return await function(*args)

        return trio.from_thread.run(bounded, trio_token=self.token)


@contextmanager
def losing_an_answer() -> Iterator[None]:
    """Drop the first reply that is no error."""
    call = Connection.call

    async def lossy(self: Connection, packed: bytes) -> Any:
        reply = await call(self, packed)
        if isinstance(reply, hiredis.ReplyError):
            return reply
        Connection.call = call  # type: ignore[method-assign]
        raise ConnectionLost("the connection ended")

    Connection.call = lossy  # type: ignore[method-assign]
    try:
        yield
    finally:
        Connection.call = call  # type: ignore[method-assign]


@contextmanager
def open_portal(redis_settings: RedisSettings) -> Iterator[Portal]:
    """Run the thread while the block runs."""
    ready: queue.Queue[tuple[Portal, trio.Event]] = queue.Queue()

    async def main() -> None:
        async with open_redis(redis_settings) as redis:
            stop = trio.Event()
            ready.put((Portal(redis, trio.lowlevel.current_trio_token()), stop))
            await stop.wait()

    thread = threading.Thread(target=trio.run, args=(main,), daemon=True)
    thread.start()
    portal, stop = ready.get(timeout=HANG_SECONDS)
    try:
        yield portal
    finally:
        portal.token.run_sync_soon(stop.set)
        thread.join(HANG_SECONDS)


class SideBySide(RuleBasedStateMachine):
    """Each rule makes one call to both stores."""

    portal: Portal  # set by the test

    def __init__(self) -> None:
        super().__init__()
        self.namespace = f"stateful-{next(NAMESPACES)}"
        self.real = RedisStore(self.portal.redis, self.namespace)
        self.now_ms = 0
        self.reference = MemoryStore(lambda: self.now_ms / 1000)
        self.claims: list[tuple[Claimed, Claimed]] = []
        self.losing = False
        self.lost = False
        self.follow_clock()

    def on_real(self, method: str, *args: Any) -> Any:
        self.lost, self.losing = self.losing, False
        if not self.lost:
            return self.portal.call(getattr(self.real, method), *args)
        with losing_an_answer():
            return self.portal.call(getattr(self.real, method), *args)

    def on_reference(self, method: str, *args: Any) -> Any:
        if self.lost and method not in UNSAFE:
            self.portal.call(getattr(self.reference, method), *args)  # the client has repeated it
        self.lost = False
        return self.portal.call(getattr(self.reference, method), *args)

    @rule()
    @precondition(lambda self: not self.portal.redis.is_cluster)  # there a call has many replies
    def lose_the_next_answer(self) -> None:
        self.losing = True

    def follow_clock(self) -> None:
        """Advance the reference's clock to the server's."""
        seconds, microseconds = self.portal.call(lambda: self.portal.redis.execute("TIME", safe=True))
        self.now_ms = max(self.now_ms, int(seconds) * 1000 + int(microseconds) // 1000)

    def wait_a_moment(self) -> None:
        """Wait until the server's clock has advanced, so that durations of a millisecond are over."""
        until_ms = self.now_ms + 3
        while self.now_ms < until_ms:
            self.follow_clock()

    def place(self, flow_id: str) -> tuple[int, Any]:
        partition = FLOWS.index(flow_id) % len(PARTITIONS)
        return partition, self.reference._partition(partition).flows.get(flow_id)

    @rule(
        change=transitions(),
        wrong=st.sampled_from([0, 0, 0, 0, 0, -1, 1]),
        end=st.sampled_from([None, None, None, None, 0, 1, HOUR_MS]),
        ended=st.sampled_from(ENDS),
    )
    def commit(self, change: dict[str, Any], wrong: int, end: int | None, ended: Listing) -> None:
        partition, flow = self.place(change["flow_id"])
        listed = Listing.ACTIVE if end is None else ended
        if flow is not None and flow.ended_ms is not None:  # over: it stays listed, or is removed
            listed, end = flow.listing, 0 if end == 0 else None
            change = {**change, "unpark": False}
        commit = Commit(
            partition=partition,
            workflow=WORKFLOWS[FLOWS.index(change["flow_id"]) % 2],
            expected_version=max(0, (flow.version if flow else 0) + wrong),
            listed_before=flow.listing if flow else None,
            listed_after=listed,
            retain_ms=end,
            **change,
        )
        try:
            committed = self.on_real("commit", commit)
        except VersionConflict as conflict:
            with pytest.raises(VersionConflict) as expected:
                self.on_reference("commit", commit)
            assert type(expected.value) is type(conflict)
            return
        except OutcomeUnknown:
            stored = self.on_real("load", partition, commit.flow_id)
            if commit.expected_version == (
                flow.version if flow else 0
            ):  # it was applied, at the time that the flow shows
                times = () if stored is None else (stored.created_ms, stored.ended_ms or 0)
                self.now_ms = max(self.now_ms, *times, 0)
                with suppress(TimerMoved):  # then it was not applied: this was the lost reply
                    self.on_reference("commit", commit)
            return
        assert committed.time_ms >= self.now_ms
        self.now_ms = committed.time_ms
        reference = self.on_reference("commit", commit)
        assert replace(reference, receipts=()) == replace(committed, receipts=())
        bodies = [entry.body for entry in commit.enqueue if entry.worker is not None and end != 0]
        self.claims.append((Claimed(bodies, (), committed.receipts), Claimed(bodies, (), reference.receipts)))

    @rule(
        action=st.sampled_from(ACTIONS),
        asked=partitions,
        limit=st.integers(1, 4),
        lease_ms=st.sampled_from([0, HOUR_MS // 2]),
    )
    def claim(self, action: str, asked: list[int], limit: int, lease_ms: int) -> None:
        try:
            real = self.on_real("claim", action, asked, limit, "worker", lease_ms)
        except OutcomeUnknown:
            self.follow_clock()
            self.on_reference("claim", action, asked, limit, "worker", lease_ms)
            return
        self.follow_clock()
        reference = self.on_reference("claim", action, asked, limit, "worker", lease_ms)
        self.claims.append((real, reference))
        assert list(real.bodies) == reference.bodies
        assert list(real.emptied) == list(reference.emptied)

    @rule(which=st.integers(0, 3))
    def give_back(self, which: int) -> None:
        if not self.claims:
            return
        real, reference = self.claims[which % len(self.claims)]
        try:
            given_back = self.on_real("give_back", real)
        except OutcomeUnknown:
            self.on_reference("give_back", reference)
            return
        assert self.on_reference("give_back", reference) == given_back

    @rule(flow_id=flow_ids, kind=st.sampled_from("tl"), action_id=action_ids, attempt=attempts)
    def renew_attempt(self, flow_id: str, kind: str, action_id: int, attempt: int) -> None:
        partition = self.place(flow_id)[0]
        keys = [TimerKey(kind, action_id, attempt, flow_id), TimerKey("l", 1, 1, flow_id)]  # type: ignore[arg-type]
        real = self.on_real("renew_attempts", partition, keys, 2 * HOUR_MS)
        assert self.on_reference("renew_attempts", partition, keys, 2 * HOUR_MS) == real

    @rule(flow_id=flow_ids, action_id=action_ids, attempt=attempts)
    def last_hand_out(self, flow_id: str, action_id: int, attempt: int) -> None:
        partition = self.place(flow_id)[0]
        real = self.on_real("last_hand_out", partition, flow_id, action_id, attempt)
        reference = self.on_reference("last_hand_out", partition, flow_id, action_id, attempt)
        assert (real and real.worker) == (reference and reference.worker)

    @rule(asked=partitions, node=st.sampled_from(NODES), lease_ms=durations, gone=st.lists(st.sampled_from(NODES)))
    def acquire(self, asked: list[int], node: str, lease_ms: int, gone: list[str]) -> None:
        real = self.on_real("acquire", asked, node, lease_ms, gone)
        self.follow_clock()
        assert self.on_reference("acquire", asked, node, lease_ms, gone) == real

    leases = st.lists(st.builds(Lease, st.sampled_from(PARTITIONS), st.integers(1, 4)), max_size=3)

    @rule(leases=leases, node=st.sampled_from(NODES), lease_ms=durations)
    def renew(self, leases: list[Lease], node: str, lease_ms: int) -> None:
        real = self.on_real("renew", leases, node, lease_ms)
        self.follow_clock()
        assert self.on_reference("renew", leases, node, lease_ms) == real

    @rule(leases=leases, node=st.sampled_from(NODES))
    def release(self, leases: list[Lease], node: str) -> None:
        self.on_real("release", leases, node)
        self.on_reference("release", leases, node)

    def current_leases(self) -> list[Lease]:
        return [Lease(owner.partition, owner.epoch) for owner in self.on_reference("owners", PARTITIONS)]

    @rule(limit=st.integers(1, 3))
    def scan(self, limit: int) -> None:
        leases = [*self.current_leases(), Lease(0, 1_000)]
        real = self.on_real("scan", leases, limit, HOUR_MS)
        self.follow_clock()
        for seen, expected in zip(real, self.on_reference("scan", leases, limit, HOUR_MS), strict=True):
            assert [due.key for due in seen.due] == [due.key for due in expected.due]
            assert sorted(seen.ready) == sorted(expected.ready)
            assert (seen.partition, seen.lease_lost) == (expected.partition, expected.lease_lost)
            assert (seen.next_due_in_ms is None) == (expected.next_due_in_ms is None)
            if seen.next_due_in_ms is not None:
                assert (seen.next_due_in_ms <= 0) == (expected.next_due_in_ms <= 0)

    @rule(flow_id=flow_ids)
    def quarantine(self, flow_id: str) -> None:
        args = (self.place(flow_id)[0], flow_id, "a bug", b'["Z"]')
        real = self.on_real("quarantine", *args)
        self.follow_clock()
        reference = self.on_reference("quarantine", *args)
        assert real == reference
        _, flow = self.place(flow_id)
        if real and flow is not None:
            flow.quarantine = self.on_real("load", args[0], flow_id).quarantine

    @rule(flow_id=flow_ids)
    def release_flow(self, flow_id: str) -> None:
        args = (self.place(flow_id)[0], flow_id, b'["G"]')
        real = self.on_real("release_flow", *args)
        self.follow_clock()
        assert self.on_reference("release_flow", *args) == real

    @rule(flow_id=flow_ids, kind=st.sampled_from("dwrtle"), action_id=action_ids, attempt=attempts)
    def cancel_timer(self, flow_id: str, kind: str, action_id: int, attempt: int) -> None:
        keys = [TimerKey(kind, action_id, attempt, flow_id)]  # type: ignore[arg-type]
        for on in (self.on_real, self.on_reference):
            on("cancel_timers", self.place(flow_id)[0], keys)

    @rule()
    def expire(self) -> None:
        self.wait_a_moment()
        leases = self.current_leases()
        assert self.on_real("expire", leases, 10) == self.on_reference("expire", leases, 10)

    @rule()
    def much_later(self) -> None:
        """Let the ids of removed flows be forgotten."""
        for number, partition in self.reference._partitions.items():
            for flow_id in partition.remembered:
                key = f"{{{self.namespace}:{number}}}:g:{flow_id}".encode()
                left_ms = self.portal.call(lambda key=key: self.portal.redis.execute("PTTL", key, key=key, safe=True))
                assert 0 < left_ms <= REMEMBERED_MS
                self.portal.call(lambda key=key: self.portal.redis.execute("DEL", key, key=key, safe=True))
            partition.remembered.clear()

    @invariant()
    def flows_are_the_same(self) -> None:
        for flow_id in FLOWS:
            partition, _ = self.place(flow_id)
            for method, args in (("load", ()), ("history", (0, 1_000))):
                real = self.on_real(method, partition, flow_id, *args)
                reference = self.on_reference(method, partition, flow_id, *args)
                if method == "history" and real is not None:
                    times = [entry.time_ms for entry in real]
                    assert times == sorted(times)
                    real, reference = ([entry.entry for entry in entries] for entries in (real, reference))
                assert real == reference

    @invariant()
    def listings_are_the_same(self) -> None:
        for partition in PARTITIONS:
            for listings, workflow, limit in ((list(Listing), None, 10), (ENDS, "orders", 1)):
                args = (partition, listings, workflow, limit, None)
                assert self.on_real("list_flows", *args) == self.on_reference("list_flows", *args)
                args = (*args, True)
                assert self.on_real("list_flows", *args) == self.on_reference("list_flows", *args)

    @invariant()
    def owners_are_the_same(self) -> None:
        real, reference = (on("owners", PARTITIONS) for on in (self.on_real, self.on_reference))
        for one, other in zip(real, reference, strict=True):
            assert replace(one, remaining_ms=0) == replace(other, remaining_ms=0)
            assert (one.remaining_ms > 0) == (other.remaining_ms > 0)

    @invariant()
    def the_keys_are_those_that_there_should_be(self) -> None:
        expected: dict[str, int | None] = {}  # with the number of items, where the port does not show it
        for number, partition in self.reference._partitions.items():
            prefix = f"{{{self.namespace}:{number}}}:"
            for flow_id, flow in partition.flows.items():
                expected[f"{prefix}f:{flow_id}"] = None
                expected[f"{prefix}i:{flow.listing}:{flow.workflow}"] = None
                expected[f"{prefix}names"] = len({flow.workflow for flow in partition.flows.values()})
                if flow.history:
                    expected[f"{prefix}h:{flow_id}"] = None
                if flow.parked:
                    expected[f"{prefix}k:{flow_id}"] = len(flow.parked)
                if flow.quarantine is not None:
                    expected[f"{prefix}u"] = sum(f.quarantine is not None for f in partition.flows.values())
                if flow.set_aside:
                    expected[f"{prefix}a:{flow_id}"] = len(flow.set_aside)
                if flow.remove_at_ms is not None:
                    expected[f"{prefix}x"] = sum(f.remove_at_ms is not None for f in partition.flows.values())
            for action, entries in partition.queues.items():
                expected[f"{prefix}q:{action}"] = len(entries)
                expected[f"{prefix}ready"] = len(partition.queues)
            for flow_id in partition.remembered:
                expected[f"{prefix}g:{flow_id}"] = None
            if partition.timers:
                expected[f"{prefix}t"] = len(partition.timers)
            if partition.holder:
                expected[f"{prefix}own"] = None
        real = self.portal.call(self.sizes_of_keys)
        assert real.keys() == expected.keys()
        for key, size in expected.items():
            assert size is None or real[key] == size, key

    async def sizes_of_keys(self) -> dict[str, int | None]:
        redis = self.portal.redis
        found: dict[str, int | None] = {}
        for keys in (await redis.on_every_master("KEYS", f"{{{self.namespace}:*")).values():
            for key in keys:
                part = key.decode().partition("}:")[2].partition(":")[0]
                command = {
                    "a": "SCARD",
                    "k": "LLEN",
                    "u": "ZCARD",
                    "q": "LLEN",
                    "ready": "SCARD",
                    "names": "SCARD",
                    "x": "ZCARD",
                    "t": "ZCARD",
                }.get(part)
                found[key.decode()] = await redis.execute(command, key, key=key, safe=True) if command else None
        return found


@pytest.mark.real
@pytest.mark.parametrize("kind", ["redis", "cluster"])
def test_a_store_on_redis_does_what_the_reference_does(kind: str, settings_of: Callable[[str], RedisSettings]) -> None:
    with open_portal(settings_of(kind)) as portal:

        class OnThatStore(SideBySide):
            pass

        OnThatStore.portal = portal
        run_state_machine_as_test(
            OnThatStore,
            settings=settings(
                max_examples=EXAMPLES[kind],
                stateful_step_count=30,
                deadline=None,
                print_blob=True,
                suppress_health_check=list(HealthCheck),
            ),
        )
