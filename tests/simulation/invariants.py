"""What must hold after each change of the store, whoever made it and whatever went wrong before.

The checker keeps its own record of each flow (`books`), each timer and each lease, from the store's requests and
responses. It looks into the store only to see that nothing is missing and nothing is left over.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import trio

from orchy.flow.definition import ActionDefinition
from orchy.store.flows import Commit, Committed
from orchy.store.leases import Lease
from orchy.store.memory.store import MemoryStore
from orchy.store.queues import Claimed
from orchy.store.timers import PartitionScan, TimerKey, TimerSetting
from tests.simulation.books import FlowBook, require
from tests.simulation.decoding import LOST, QUEUED, TIMEOUT, Attempt, read_attempt, read_flow, read_record
from tests.simulation.holders import Holders
from tests.simulation.plan import Plan
from tests.simulation.queues import Key, Queues
from tests.simulation.world import World

#: The error of floating point.
_ROUNDING_SECONDS = 1e-6
#: How long a worker may leave its stream unread, the message in flight included.
READING_SECONDS = 2.5


#: History records that come from a timer of an attempt, and the kind of that timer.
_TIMERS_OF_ENDS = {"TIMED_OUT": TIMEOUT, "WORKER_LOST": LOST, "GIVEN_BACK": LOST}


class Checker:
    """Watches one store. Its methods are called right after each change; they raise Violation."""

    def __init__(self, world: World, store: MemoryStore) -> None:
        self._world = world
        self._store = store
        self.plans: dict[str, Plan] = {}  # by the workflow's name; each has one version
        self.inputs: dict[str, Any] = {}  # by flow, what its client has sent
        self.definitions: dict[str, ActionDefinition] = {}
        self.books: dict[str, FlowBook] = {}
        self.reached: set[tuple[str, int, int]] = set()  # attempts that a worker received
        self.sound: set[tuple[str, int, int]] = set()  # attempts handed out when nothing was broken
        self.pushed: dict[tuple[str, int, int], list[Any]] = {}  # what workers returned for each attempt
        self._timers: dict[tuple[int, TimerKey], float] = {}  # when each is due
        self._taken: dict[tuple[int, TimerKey], float] = {}  # when a scan took each timer that was not moved since
        self._handed_out_to: dict[tuple[str, int, int], tuple[str, float]] = {}
        self.reached_by: dict[tuple[str, int, int, str], float] = {}  # when that worker received it
        self.missing: dict[tuple[str, int, int, str], float] = {}  # when that worker reported it missing
        self.processes: dict[str, Any] = {}  # workers with streams, by name
        self.holders = Holders(world)
        self._queues = Queues(self._meaning)

    # Flows.

    def committed(self, commit: Commit, done: Committed) -> None:
        """A commit was made."""
        now = trio.current_time()
        book = self._book_of(commit)
        where = f"flow {book.id}, version {commit.expected_version} -> {done.version}"
        require(commit.expected_version == book.version, "a commit is made on the newest version", where)
        require(done.version == book.version + 1, "versions rise by one", where)
        book.version = done.version
        for name in commit.fields:
            require(name[:2] != "o:" or name not in book.fields, "a result counts once", f"{where}: {name}")
        self._check_fields(book, commit, where)
        book.fields.update(commit.fields)
        for name in commit.removed_fields:
            require(name[:2] != "o:", "results stay", where)
            book.fields.pop(name, None)
        was_over = book.over
        for line in commit.history:
            book.replay(line, done.time_ms)
            self._check_reached(book)
        book.flow = read_flow(book.fields)
        self._world.counts["actions postponed"] += sum(read_record(line)[0] == "POSTPONED" for line in commit.history)
        summary = " ".join(f"{kind}{id or ''}.{n or ''}" for _, kind, id, n in book.lines[-len(commit.history) :])
        self._world.note(f"p{book.partition} {book.id} v{book.version} {book.flow.state} [{summary}]")
        book.agree()
        book.take_events()
        self._check_results(book, commit)
        for entry in commit.enqueue:
            key = (entry.action_id, entry.attempt)
            require(key not in book.enqueued, "an attempt is enqueued once", f"{where}: {key}")
            require(key in book.scheduled and not book.over, "only what was started is enqueued", where)
            book.enqueued.add(key)
            attempt = read_attempt(entry.body)
            name = book.plan.actions[entry.action_id].name
            good = attempt.key == (book.id, *key) and entry.action_name == name
            require(good, "what is enqueued is what was started", f"{where}: {attempt} in {entry.action_name}")
            book.check_attempt(attempt)
            if entry.worker is None and not book.over:
                self._queues.put(book.partition, entry.action_name, attempt.key)
        handed_out = [entry for entry in commit.enqueue if entry.worker is not None]
        require(len(done.receipts) == len(handed_out), "what a commit hands out has a receipt", where)
        for timer in commit.fired_timers:
            self._world.count("timeouts and lost leases handled")
            require((book.partition, timer) in self._taken, "more time that was granted holds", f"{where}: {timer}")
        self._check_ends(book, commit)
        self._forget(book.partition, commit.cancel_timers)
        if commit.retain_ms == 0:
            book.removed = True
        if commit.unpark:
            self._queues.resume(book.id)
        if book.over:
            self._queues.forget(book.id)
        for setting in commit.set_timers:
            self._timers[book.partition, setting.key] = now + setting.after_ms / 1000
        require((commit.retain_ms is not None) == (book.over and not was_over), "retention begins with the end", where)
        if commit.retain_ms is not None:
            book.ended_ms, book.retain_ms = done.time_ms, commit.retain_ms
        for entry in handed_out:
            self._world.count("attempts handed out by commits")
            self._hand_out(book, read_attempt(entry.body), str(entry.worker), entry.lease_ms)
        self.check_complete(book)

    def _check_fields(self, book: FlowBook, commit: Commit, where: str) -> None:
        """Fields that are written once do not change."""
        for name, value in commit.fields.items():
            require(name != "i" or not book.version > 1, "the input is written once", where)
            if name == "i":
                book.input = json.loads(value)
                wanted = self.inputs[book.id]
                require(book.input == wanted, "a flow has the input that it was given", f"{where}: {book.input}")

    def _meaning(self, key: Key) -> str:
        """What a claim should do with a queue entry now: see `Queues`."""
        flow_id, action_id, attempt = key
        book = self.books[flow_id]
        if book.removed or book.over or book.flow is None:
            return "stale"
        running = book.flow.running.get(action_id)
        if running is None or running.attempt != attempt or running.phase != QUEUED:
            return "stale"
        return "paused" if book.paused else "live"

    def _forget(self, partition: int, timers: Iterable[TimerKey]) -> None:
        for timer in timers:
            self._timers.pop((partition, timer), None)
            if timer.kind == TIMEOUT:
                self._timers.pop((partition, _timer(LOST, timer.flow_id, timer.action_id, timer.attempt)), None)

    def _check_ends(self, book: FlowBook, commit: Commit) -> None:
        """An attempt is ended by a timer only if a scan took the timer, and it was not moved since."""
        for line in commit.history:
            kind, action_id, attempt, worker, _ = read_record(line)
            timer = _TIMERS_OF_ENDS.get(kind)
            if timer is not None:
                key = _timer(timer, book.id, action_id, attempt)
                require((book.partition, key) in self._taken, "more time that was granted holds", f"{book.id} {key}")
            if kind == "WORKER_LOST":
                self._world.count("workers' attempts lost")
                self._check_lost(book, action_id, attempt, worker, self._taken[book.partition, key])
            if kind == "GIVEN_BACK":
                self._world.count("attempts that were never received")
                had, _ = self._handed_out_to[book.id, action_id, attempt]
                said_at = self.missing.get((book.id, action_id, attempt, had), float("inf"))
                reached_at = self.reached_by.get((book.id, action_id, attempt, had), float("inf"))
                # It may be in flight, and arrive after the worker has reported it missing.
                missed = reached_at >= said_at
                require(missed, "what goes back was not received", f"{book.id} {action_id}.{attempt} of {had}")
                self.sound.discard((book.id, action_id, attempt))

    def _check_lost(self, book: FlowBook, action_id: int, attempt: int, worker: str, taken_at: float) -> None:
        """A worker that could be asked is not lost, whether it has received the attempt or not.

        It is asked once a scan has taken the timer; the commit follows after the time for an answer and the way to the
        store. So the worker must have been reachable all that time: one that was frozen or had no stream when its lease
        ran out is lost, even if it is back when that is committed.
        """
        process = self.processes.get(worker)
        if process is not None and process.is_running:
            self._world.note(f"{worker} is there, and {book.id} {action_id}.{attempt} is lost")
            could_answer = process.is_well_connected_since(taken_at)
            require(not could_answer, "a worker that answers is not lost", f"{book.id} {action_id} {worker}")

    def _check_reached(self, book: FlowBook) -> None:
        _, kind, action_id, attempt = book.lines[-1]
        if kind in ("TIMED_OUT", "WORKER_LOST") and (book.id, action_id, attempt) in self.sound:
            reached = (book.id, action_id, attempt) in self.reached
            worker, since = self._handed_out_to.get((book.id, action_id, attempt), ("", 0.0))
            process = self.processes.get(worker)
            stood_still = process is not None and (process.gone.is_set() or process.frozen_until >= since)
            require(
                reached or stood_still,
                "in a sound world what is handed out reaches a worker, or goes back",
                book.lines[-6:],
            )

    def handed_out_in_sound_world(self, bodies: Iterable[bytes]) -> None:
        """These were handed out, the response arrived, and nothing breaks any more."""
        for body in bodies:
            attempt = read_attempt(body)
            if attempt.timeout_seconds > READING_SECONDS:
                self.sound.add(attempt.key)

    def record_received(self, attempt: Attempt, worker: str = "") -> None:
        """A worker has received an attempt."""
        self.reached_by[(*attempt.key, worker)] = trio.current_time()
        self.reached.add(attempt.key)
        self.books[attempt.flow_id].check_attempt(attempt)

    def _book_of(self, commit: Commit) -> FlowBook:
        book = self.books.get(commit.flow_id)
        if book is None or (book.removed and commit.expected_version == 0):
            plan = self.plans[json.loads(commit.fields["m"])[0]]
            book = FlowBook(commit.flow_id, commit.partition, plan, self.definitions)
            if commit.flow_id in self.books:
                self._world.count("flows started again after their removal")
                self._world.note(f"{commit.flow_id} is started again after its removal")
            self.books[commit.flow_id] = book
        return book

    def _check_results(self, book: FlowBook, commit: Commit) -> None:
        assert book.flow is not None
        for name in commit.fields:
            if name.startswith("o:"):
                action_id = int(name[2:])
                done = book.flow.finished[action_id]
                if book.plan.actions[action_id].type == "user":
                    said = self.pushed.get((book.id, action_id, done.attempt), [])
                    require(done.output in said, "a result is what a worker said of that attempt", f"{book.id} {name}")

    def check_complete(self, book: FlowBook) -> None:
        """All timers and queue entries that the flow needs are there, and no others."""
        assert book.flow is not None
        partition = self._store._partition(book.partition)
        where = f"flow {book.id}: running {book.flow.running}"
        stored = partition.flows.get(book.id)
        require((stored is None) == book.removed, "a flow is there until its retention is over", where)
        there = {(str(key.kind), key.action_id, key.attempt) for key in partition.timers if key.flow_id == book.id}
        live = book.live_timers() if not book.removed else {}
        for timer, needed in live.items():
            require(timer in there or not needed, "what waits has a timer", f"{timer}; {where}")
        require(there <= live.keys(), "no timer is left of what is over", f"{sorted(there - live.keys())}; {where}")
        queued = {
            (item.entry.action_id, item.entry.attempt)
            for queue in partition.queues.values()
            for item in queue
            if item.flow_id == book.id
        }
        if stored is not None:
            queued |= {(item.entry.action_id, item.entry.attempt) for item in stored.parked}
        for kind, action_id, attempt in live:
            if kind == TIMEOUT:
                found = (action_id, attempt) in queued or (kind, action_id, attempt) in there
                require(found, "an attempt is in a queue or has a timeout", f"{action_id}.{attempt}; {where}")

    def claimed(
        self, name: str, partitions: Sequence[int], claimed: Claimed, limit: int, worker: str, lease_ms: int
    ) -> None:
        """A claim handed out attempts, and may have parked or dropped others."""
        require(len(claimed.bodies) <= limit, "no more is handed out than was asked for", len(claimed.bodies))
        attempts = [read_attempt(body) for body in claimed.bodies]
        for attempt in attempts:
            asked = self.books[attempt.flow_id].partition in partitions
            require(asked, "work comes from where it was asked for", attempt)
            require(attempt.name == name, "work is of the action that was asked for", attempt)
        for number in partitions:
            keys = [attempt.key for attempt in attempts if self.books[attempt.flow_id].partition == number]
            self._queues.hand_out(number, name, keys, emptied=number in claimed.emptied)
        for attempt in attempts:
            self._hand_out(self.books[attempt.flow_id], attempt, worker, lease_ms)
        for book in self.books.values():
            if book.partition in partitions and not book.removed:
                self.check_complete(book)

    def _hand_out(self, book: FlowBook, attempt: Attempt, worker: str, lease_ms: int) -> None:
        if lease_ms >= attempt.timeout_seconds * 1000:
            lease_ms = 0
        book.hand_out(attempt.action_id, attempt.attempt, self._store._now_ms(), lease_ms)
        self._set(book.partition, _timer(TIMEOUT, *attempt.key), attempt.timeout_seconds)
        self._handed_out_to[attempt.key] = (worker, trio.current_time())
        if lease_ms:
            self._world.count("attempts leased")
            self._set(book.partition, _timer(LOST, *attempt.key), lease_ms / 1000)
        self._world.note(f"p{book.partition} {book.id} {attempt.action_id}.{attempt.attempt} to {worker}")
        self._world.count("attempts handed out")

    def extended(self, partition: int, timer: TimerSetting, extended: bool) -> None:
        """An attempt got more time, or was not there any more."""
        if extended:
            require((partition, timer.key) in self._timers, "what is extended has a timer", timer)
            self._set(partition, timer.key, timer.after_ms / 1000)
            self._world.note(f"p{partition} timer {timer.key} is extended")
            self._world.count("attempts extended")

    def _set(self, partition: int, key: TimerKey, after_seconds: float) -> None:
        self._timers[partition, key] = trio.current_time() + after_seconds
        self._taken.pop((partition, key), None)

    def leases_renewed(self, partition: int, keys: Iterable[TimerKey], lease_ms: int) -> None:
        """Leases of attempts were renewed: none ends sooner than it would have."""
        for key in keys:
            due_at = self._timers.get((partition, key))
            require(due_at is not None, "what is renewed has a lease", key)
            assert due_at is not None
            self._set(partition, key, max(lease_ms / 1000, due_at - trio.current_time()))
            self._world.note(f"p{partition} timer {key} is renewed")
            self._world.count("leases renewed")

    def given_back(self, claimed: Claimed, count: int) -> None:
        """Attempts were put back into their queues, unless they had ended."""
        went_back: dict[tuple[int, str], list[Key]] = {}
        for body, receipt in zip(claimed.bodies, claimed.receipts, strict=True):
            attempt = read_attempt(body)
            key = _timer(TIMEOUT, *attempt.key)
            partition = self._store._partition(receipt.partition)
            if key not in partition.timers and (receipt.partition, key) in self._timers:
                count -= 1
                self._forget(receipt.partition, [key])
                self.books[key.flow_id].give_back(key.action_id, key.attempt, self._store._now_ms())
                self._world.note(f"p{receipt.partition} {key.flow_id} {key.action_id}.{key.attempt} came back")
                self._world.count("attempts given back")
                self.sound.discard(attempt.key)
                self.check_complete(self.books[key.flow_id])
                went_back.setdefault((receipt.partition, attempt.name), []).append(attempt.key)
        for (number, name), keys in went_back.items():
            self._queues.put_back(number, name, keys)
        require(count == 0, "what goes back was handed out", count)

    def cancelled(self, partition: int, keys: Iterable[TimerKey]) -> None:
        """Timers were cancelled."""
        for key in keys:
            self._forget(partition, [key])
            self._world.note(f"p{partition} timer {key} is forgotten")
            book = self.books.get(key.flow_id)
            if book is not None:
                self.check_complete(book)

    def expired(self, partitions: Iterable[int]) -> None:
        """Flows of these partitions were removed."""
        now_ms = self._store._now_ms()
        asked = set(partitions)
        for book in self.books.values():
            there = book.removed or book.id in self._store._partition(book.partition).flows
            if book.partition in asked and not there:
                kept_for_ms = now_ms - book.ended_ms if book.ended_ms is not None else -1
                require(book.over and kept_for_ms >= book.retain_ms, "a flow is kept for its retention", book.id)
                book.removed = True
                self._world.note(f"p{book.partition} {book.id} is removed")

    # Timers.

    def scanned(self, leases: Sequence[Lease], scans: Sequence[PartitionScan], lease_ms: int) -> None:
        """An owner has scanned for due timers."""
        now = trio.current_time()
        for lease, scan in zip(leases, scans, strict=True):
            if scan.lease_lost:
                require(not scan.due, "a lost partition gives nothing", scan)
                continue
            self.holders.check_newest(lease)
            for due in scan.due:
                due_at = self._timers.get((due.partition, due.key))
                require(due_at is not None, "a timer that is due was set", due)
                assert due_at is not None
                require(now >= due_at - _ROUNDING_SECONDS, "no timer is early", f"{due}: due at {due_at}, now {now}")
                # Rounded down to whole milliseconds, not up as for a new timer: it was due already.
                self._timers[due.partition, due.key] = now - 0.001 + lease_ms / 1000
                self._taken.setdefault((due.partition, due.key), now)
                self._world.note(f"p{due.partition} timer {due.key} is due")
                self._world.count("timers taken")

    # The end.

    def check_nothing_left(self) -> None:
        """All flows are over and all queues were polled: no queue entry and no timer is left."""
        for number, partition in sorted(self._store._partitions.items()):
            require(not partition.queues, "nothing is left in the queues", f"partition {number}: {partition.queues}")
            require(not partition.timers, "nothing is left of the timers", f"partition {number}: {partition.timers}")
            for flow in partition.flows.values():
                require(not flow.parked, "nothing is left parked", flow.parked)

    def open_flows(self) -> list[FlowBook]:
        """The flows that are not over."""
        return [book for book in self.books.values() if not book.over]

    def each(self, check: Callable[[FlowBook], None]) -> None:
        """Run a check on all flows."""
        for book in self.books.values():
            check(book)


def _timer(kind: str, flow_id: str, action_id: int, attempt: int) -> TimerKey:
    return TimerKey.parse(f"{kind}:{action_id}:{attempt}:{flow_id}")
