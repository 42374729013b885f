"""Mutations: production code with one check removed, which the simulation must notice.

Each mutation is a context manager in which the production code has the mistake. Those of the reference store stand for
the same mistake in the Redis scripts; other tests compare the two call by call.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from itertools import count
from typing import Any

import trio
from msgspec.structs import replace

from orchy.dispatch.dispatcher import Dispatcher
from orchy.engine import commits, mover, transition
from orchy.engine.lost_attempts import Holding, Silence
from orchy.engine.mover import Mover
from orchy.engine.start_commits import StartCommits, StartOutcome
from orchy.engine.transition import Transition
from orchy.errors import OutcomeUnknown
from orchy.flow import draft, machine
from orchy.flow.effects import CancelTimer
from orchy.flow.events import EventReceived, TimerKind
from orchy.flow.execution import Phase, State
from orchy.flow.recent import RecentEvents
from orchy.partition.timers import TimerLoop
from orchy.rpc.api import session_life
from orchy.rpc.api.outgoing import Outgoing
from orchy.rpc.api.session import Session
from orchy.rpc.api.sessions import WorkSessions
from orchy.store.flows import Committed
from orchy.store.memory.store import MemoryStore
from orchy.store.queues import Receipt
from orchy.store.timers import TimerKey
from tests.simulation.misreadings import MISREADINGS
from tests.simulation.replacing import replaced as _replaced
from tests.simulation.run import run_seed


def commit_compares_no_version() -> AbstractContextManager[None]:
    """The store accepts a commit on any version."""
    commit = MemoryStore.commit

    async def mutated(self: Any, made: Any) -> Any:
        flow = self._partition(made.partition).flows.get(made.flow_id)
        return await commit(self, replace(made, expected_version=flow.version if flow else 0))

    return _replaced(MemoryStore, "commit", mutated)


def commit_leaves_timers() -> AbstractContextManager[None]:
    """A commit does not remove the timers that it cancels, the handled one among them."""
    commit = MemoryStore.commit

    async def mutated(self: Any, made: Any) -> Any:
        return await commit(self, replace(made, cancel_timers=()))

    return _replaced(MemoryStore, "commit", mutated)


def commit_does_not_unpark() -> AbstractContextManager[None]:
    """A resumption leaves parked entries where they are."""
    commit = MemoryStore.commit

    async def mutated(self: Any, made: Any) -> Any:
        return await commit(self, replace(made, unpark=False))

    return _replaced(MemoryStore, "commit", mutated)


def _hand_out_of(*, unpaused: bool = False, any_attempt: bool = False) -> Any:
    hand_out = MemoryStore._hand_out

    def mutated(self: Any, partition: Any, queued: Any, worker: str, lease_ms: int) -> bool:
        flow = partition.flows.get(queued.flow_id)
        if flow is None:
            return False
        fields = dict(flow.fields)
        if unpaused:
            flow.fields.pop("p", None)
        if any_attempt:
            entry = queued.entry
            flow.fields[f"r:{entry.action_id}"] = f"{entry.attempt}:q:".encode()
        done = hand_out(self, partition, queued, worker, lease_ms)
        flow.fields = fields
        return done

    return _replaced(MemoryStore, "_hand_out", mutated)


def claim_ignores_the_pause() -> AbstractContextManager[None]:
    """Attempts of a paused flow are handed out."""
    mutation: AbstractContextManager[None] = _hand_out_of(unpaused=True)
    return mutation


def claim_ignores_the_attempt() -> AbstractContextManager[None]:
    """Each queue entry is handed out, even of a flow that is over."""
    mutation: AbstractContextManager[None] = _hand_out_of(any_attempt=True)
    return mutation


def claim_sets_no_timeout() -> AbstractContextManager[None]:
    """An attempt is handed out without a timer."""
    claim = MemoryStore.claim

    async def mutated(self: Any, *args: Any) -> Any:
        claimed = await claim(self, *args)
        for receipt in claimed.receipts:
            flow_id, _, action_id, attempt, _ = json.loads(receipt.head)
            self._partition(receipt.partition).timers.pop(TimerKey(TimerKind.TIMEOUT, action_id, attempt, flow_id))
        return claimed

    return _replaced(MemoryStore, "claim", mutated)


def look_ignores_the_epoch() -> AbstractContextManager[None]:
    """A former holder of a partition still gets its timers."""
    return _replaced(MemoryStore, "_is_current", lambda self, lease: True)


def look_takes_timers_away() -> AbstractContextManager[None]:
    """A timer that a scan returns is removed, whether it is handled or not."""
    scan = MemoryStore._scan

    def mutated(self: Any, lease: Any, limit: int, lease_ms: int) -> Any:
        found = scan(self, lease, limit, lease_ms)
        for due in found.due:
            self._partition(due.partition).timers.pop(due.key)
        return found

    return _replaced(MemoryStore, "_scan", mutated)


def timers_are_due_a_moment_early() -> AbstractContextManager[None]:
    """Due times are rounded down."""
    return _replaced(MemoryStore, "_due_ms", lambda self, after_ms: self._now_ms() + after_ms)


def leases_are_taken_while_held() -> AbstractContextManager[None]:
    """A node acquires partitions that another one still holds."""
    acquire = MemoryStore.acquire

    async def mutated(self: Any, partitions: Any, node: str, lease_ms: int, instead_of: Any = ()) -> Any:
        for number in partitions:
            holder = self._partition(number).holder
            if holder:
                holder.until_ms = None
        return await acquire(self, partitions, node, lease_ms, instead_of)

    return _replaced(MemoryStore, "acquire", mutated)


def epochs_do_not_rise() -> AbstractContextManager[None]:
    """A lease that changes hands keeps its epoch."""
    acquire = MemoryStore.acquire

    async def mutated(self: Any, partitions: Any, node: str, lease_ms: int, instead_of: Any = ()) -> Any:
        taken = await acquire(self, partitions, node, lease_ms, instead_of)
        for lease in taken:
            self._partition(lease.partition).holder.epoch = 1
        return [replace(lease, epoch=1) for lease in taken]

    return _replaced(MemoryStore, "acquire", mutated)


def results_of_any_attempt_count() -> AbstractContextManager[None]:
    """A late result counts as one of the running attempt."""
    take_result = machine._take_result

    def mutated(made: Any, result: Any) -> Any:
        running = made.running.get(result.run_id)
        if running and running.phase is Phase.QUEUED:
            result = replace(result, attempt=running.attempt)
        return take_result(made, result)

    return _replaced(machine, "_take_result", mutated)


@contextmanager
def a_time_out_counts_for_any_attempt() -> Iterator[None]:
    """A timeout counts for any running attempt, and the store does not check that its timer is there."""
    act, commit = machine._act, MemoryStore.commit

    def mutated(made: Any, trigger: Any, action_id: int, attempt: int, event: Any) -> Any:
        running = made.running.get(action_id)
        if trigger is machine.Trigger.TIMEOUT and running:
            attempt = running.attempt
        return act(made, trigger, action_id, attempt, event)

    async def lenient(self: Any, made: Any) -> Any:
        there = self._partition(made.partition).timers
        return await commit(self, replace(made, fired_timers=tuple(key for key in made.fired_timers if key in there)))

    with _replaced(machine, "_act", mutated), _replaced(MemoryStore, "commit", lenient):
        yield


def a_completion_cancels_no_timer() -> AbstractContextManager[None]:
    """An action that leaves a phase keeps the phase's timer."""
    build_commit = transition.build_commit

    def mutated(transition: Any, **more: Any) -> Any:
        transition.effects = [effect for effect in transition.effects if not isinstance(effect, CancelTimer)]
        return build_commit(transition, **more)

    return _replaced(commits, "build_commit", mutated)


def a_start_is_not_idempotent() -> AbstractContextManager[None]:
    """A repeated flowId starts the flow again."""
    commit = MemoryStore.commit

    async def mutated(self: Any, made: Any) -> Any:
        if made.expected_version == 0:
            self._partition(made.partition).flows.pop(made.flow_id, None)
        return await commit(self, made)

    return _replaced(MemoryStore, "commit", mutated)


def kept_events_are_taken_from_the_wrong_end() -> AbstractContextManager[None]:
    """A wait takes the newest kept event."""
    wait = draft.Draft.wait

    def mutated(self: Any, action_id: int, attempt: int, event: str, timeout_seconds: Any) -> None:
        self.kept_events = tuple(reversed(self.kept_events))
        wait(self, action_id, attempt, event, timeout_seconds)
        self.kept_events = tuple(reversed(self.kept_events))

    return _replaced(draft.Draft, "wait", mutated)


def events_sent_again_count_again() -> AbstractContextManager[None]:
    """An event whose commit's response was lost counts again."""
    take_event = machine._take_event
    numbers = count()

    def mutated(made: Any, event: EventReceived) -> Any:
        made.recent_events = RecentEvents()
        again = replace(event, event_id=f"{event.event_id}{next(numbers)}")
        return take_event(made, again)

    return _replaced(machine, "_take_event", mutated)


def a_pause_holds_nothing() -> AbstractContextManager[None]:
    """Actions that are reached during a pause are started."""
    start = draft.Draft.start

    def mutated(self: Any, action_id: int, attempt: int) -> None:
        state, self.state = self.state, State.RUNNING if self.state is State.PAUSED else self.state
        start(self, action_id, attempt)
        self.state = state if not self.state.over else self.state

    return _replaced(draft.Draft, "start", mutated)


def the_end_leaves_what_runs() -> AbstractContextManager[None]:
    """A flow that fails or is cancelled keeps its running actions' timers."""
    leave = draft.Draft.leave

    def mutated(self: Any, action_id: int) -> None:
        before = len(self.effects)
        leave(self, action_id)
        if action_id not in self.finished and self.state is State.RUNNING and action_id in self.before.running:
            del self.effects[before:]

    return _replaced(draft.Draft, "leave", mutated)


def unknown_outcomes_are_taken_for_done() -> AbstractContextManager[None]:
    """A start whose response was lost is reported as done."""
    make = StartCommits.make

    async def mutated(self: Any, new: Any) -> StartOutcome:
        if not isinstance(new.first_try, OutcomeUnknown):
            with suppress(OutcomeUnknown):
                return await make(_Once(self), new)  # type: ignore[arg-type]
        return StartOutcome(new.flow.id, True, new.flow.workflow_version)

    return _replaced(StartCommits, "make", mutated)


class _Once:
    """Start commits that do not check whether a start with an unknown outcome was made."""

    def __init__(self, commits: Any) -> None:
        self._commits_of_starts = commits

    async def _make(self, new: Any) -> Any:
        return await StartCommits._make(self, new)  # type: ignore[arg-type]

    async def _find_existing(self, *args: Any) -> Any:
        raise OutcomeUnknown("not looked for")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._commits_of_starts, name)


def answers_come_from_an_old_cache() -> AbstractContextManager[None]:
    """Events that change nothing are decided on the cached flow (a mistake that once existed)."""
    move = Mover._move

    async def mutated(self: Any, flow_id: str, envelopes: Any) -> None:
        seen = self._cache.get(flow_id)
        if seen is not None:
            graph = await self._catalog.graph(seen.flow.workflow, seen.flow.workflow_version)
            transition = Transition(graph, seen.flow, await self._rules.current())
            answers = [mover.step_envelope(transition, envelope) for envelope in envelopes]
            if not transition.changed:
                for envelope, answer in zip(envelopes, answers, strict=True):
                    envelope.answer, envelope.flow = answer, seen
                return
        await move(self, flow_id, envelopes)

    return _replaced(Mover, "_move", mutated)


def the_owner_does_not_look() -> AbstractContextManager[None]:
    """Work and timers are found only by wake-ups."""

    def mutated(self: Any, scan: Any) -> None:
        return None

    return _replaced(TimerLoop, "_note", mutated)


def the_timer_loop_keeps_what_is_not_its_own() -> AbstractContextManager[None]:
    """The due time of a partition that was released keeps the loop awake (a mistake that once existed)."""

    def mutated(self: Any, partition: int, at: float) -> None:
        if at < self._due_at.get(partition, float("inf")):
            self._due_at[partition] = at
        if at < self._next_at:
            self._next_at = at
            self._earlier.set()

    return _replaced(TimerLoop, "_scan_at", mutated)


def ready_work_is_forgotten() -> AbstractContextManager[None]:
    """A partition counts as empty once it was claimed from."""
    claim = Dispatcher._claim

    async def mutated(self: Any, *args: Any) -> Any:
        bodies = await claim(self, *args)
        self._owned = frozenset(partition for partition in self._owned if not bodies)
        return bodies

    return _replaced(Dispatcher, "_claim", mutated)


def a_commit_hands_out_without_a_timer() -> AbstractContextManager[None]:
    """Attempts that a commit hands out never time out."""
    commit = MemoryStore.commit

    async def mutated(self: Any, made: Any) -> Any:
        done = await commit(self, made)
        for entry in made.enqueue:
            if entry.worker is not None:
                key = TimerKey(TimerKind.TIMEOUT, entry.action_id, entry.attempt, made.flow_id)
                self._partition(made.partition).timers.pop(key, None)
        return done

    return _replaced(MemoryStore, "commit", mutated)


def a_commit_that_was_not_made_is_delivered() -> AbstractContextManager[None]:
    """A waiting poll or stream gets the attempt although the commit failed."""
    settle_reservations = commits.settle_reservations

    def mutated(kept: Any, commit: Any, outcome: Any) -> None:
        if isinstance(outcome, Committed):
            settle_reservations(kept, commit, outcome)
            return
        for taker, entry in zip(kept, [e for e in commit.enqueue if e.worker], strict=False):
            head = [commit.flow_id, entry.action_name, entry.action_id, entry.attempt, entry.timeout_ms]
            taker.take(entry.body, Receipt(commit.partition, json.dumps(head).encode()))

    return _replaced(commits, "settle_reservations", mutated)


def what_was_not_sent_is_not_given_back() -> AbstractContextManager[None]:
    """A stream that ends does not give back attempts that it has not sent."""

    async def mutated(self: Any) -> None:
        await trio.lowlevel.checkpoint()
        self._outgoing.take_unsent()

    return _replaced(Session, "_give_back", mutated)


def what_is_being_sent_is_not_given_back() -> AbstractContextManager[None]:
    """A stream that is cut takes along the message that was on its way (a mistake that was there)."""
    return _replaced(Outgoing, "cancel_sending", lambda self: self._being_sent.clear())


@contextmanager
def a_stream_that_ends_goes_on_taking_work() -> Iterator[None]:
    """A stream that ended keeps what is handed out for it (a mistake that was there, while results were stored)."""
    rows = dict(session_life._ROWS)
    for pair, row in rows.items():
        if session_life.Effect.STOP_HANDING_OUT in row.effects and row.trigger is not session_life.Trigger.NO_MORE_WORK:
            kept = tuple(effect for effect in row.effects if effect is session_life.Effect.STOP_READING)
            rows[pair] = session_life.Row(*pair, kept, row.leads_to)
    give_back_soon = Session._give_back_soon

    def mutated(self: Any) -> None:
        if self._state in session_life.SENDS_ATTEMPTS | session_life.ENDS:
            give_back_soon(self)

    with _replaced(session_life, "_ROWS", rows), _replaced(Session, "_give_back_soon", mutated):
        yield


def an_extension_is_for_any_attempt() -> AbstractContextManager[None]:
    """An attempt that is over gets a timeout again."""

    async def mutated(self: Any, partition: int, timer: Any) -> bool:
        await trio.lowlevel.checkpoint()
        self._partition(partition).timers[timer.key] = self._due_ms(timer.after_ms)
        return True

    return _replaced(MemoryStore, "extend", mutated)


def more_time_that_was_granted_does_not_hold() -> AbstractContextManager[None]:
    """A timer that a scan has taken ends its attempt, although it was moved since (a mistake that once existed)."""
    commit = MemoryStore.commit

    async def mutated(self: Any, made: Any) -> Any:
        return await commit(self, replace(made, fired_timers=()))

    return _replaced(MemoryStore, "commit", mutated)


def what_was_never_received_counts_as_lost() -> AbstractContextManager[None]:
    """An attempt that its worker does not hold is used up, even if the worker never received it."""
    ask = WorkSessions.ask

    async def mutated(self: Any, worker: str, attempt: Any) -> Any:
        answer = await ask(self, worker, attempt)
        return answer if answer is Silence.SILENT or answer.holds else Silence.SILENT

    return _replaced(WorkSessions, "ask", mutated)


def what_is_held_is_handed_out_again() -> AbstractContextManager[None]:
    """A worker's answer that it holds an attempt is understood as the opposite."""
    ask = WorkSessions.ask

    async def mutated(self: Any, worker: str, attempt: Any) -> Any:
        answer = await ask(self, worker, attempt)
        return answer if answer is Silence.SILENT else Holding(False, 10**9)

    return _replaced(WorkSessions, "ask", mutated)


def a_lost_worker_keeps_what_it_held() -> AbstractContextManager[None]:
    """The attempts of a lost worker are renewed forever."""

    async def mutated(self: Any, worker: str, attempt: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return Holding(True)

    return _replaced(WorkSessions, "ask", mutated)


MUTATIONS: Mapping[str, Callable[[], AbstractContextManager[None]]] = {
    mutation.__name__: mutation
    for mutation in (
        commit_compares_no_version,
        commit_leaves_timers,
        commit_does_not_unpark,
        claim_ignores_the_pause,
        claim_ignores_the_attempt,
        claim_sets_no_timeout,
        look_ignores_the_epoch,
        look_takes_timers_away,
        timers_are_due_a_moment_early,
        leases_are_taken_while_held,
        epochs_do_not_rise,
        results_of_any_attempt_count,
        a_time_out_counts_for_any_attempt,
        a_completion_cancels_no_timer,
        a_start_is_not_idempotent,
        kept_events_are_taken_from_the_wrong_end,
        events_sent_again_count_again,
        a_pause_holds_nothing,
        the_end_leaves_what_runs,
        unknown_outcomes_are_taken_for_done,
        answers_come_from_an_old_cache,
        the_owner_does_not_look,
        the_timer_loop_keeps_what_is_not_its_own,
        ready_work_is_forgotten,
        a_commit_hands_out_without_a_timer,
        a_commit_that_was_not_made_is_delivered,
        what_was_not_sent_is_not_given_back,
        what_is_being_sent_is_not_given_back,
        a_stream_that_ends_goes_on_taking_work,
        an_extension_is_for_any_attempt,
        more_time_that_was_granted_does_not_hold,
        what_was_never_received_counts_as_lost,
        what_is_held_is_handed_out_again,
        a_lost_worker_keeps_what_it_held,
        *MISREADINGS,
    )
}


def hunt(task: tuple[str, int, int]) -> tuple[str, int | None, str]:
    """Find the first seed that breaks a rule with the mutation and none without: (mutation, seed or None, rule).

    A TypeError means that the mutation does not fit the engine any more, so it does not count.
    """
    name, start, seeds = task
    logging.disable(logging.WARNING)
    for seed in range(start, start + seeds):
        with MUTATIONS[name]():
            outcome = run_seed(seed, keep=0)
        if outcome.broken and outcome.broken.startswith("TypeError"):
            return name, None, outcome.broken
        if outcome.broken and run_seed(seed, keep=0).broken is None:
            return name, seed, outcome.broken[:160]
    return name, None, ""
