"""Builds the commits of flows that were moved, sends them to the store, and applies their consequences on this node."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio
from msgspec import Struct

from orchy.engine.flow_cache import CachedFlow, FlowCache
from orchy.engine.hand_off import reserve_workers, settle_reservations
from orchy.engine.mailbox import Envelope
from orchy.engine.ports import HandOff, Observer, Reservation, Wakeups
from orchy.engine.transition import EncodeAction, Transition, build_commit, has_outputs
from orchy.errors import InvalidInput, NotFound, OrchyError, OutcomeUnknown, StoreError, WrongState
from orchy.flow.execution import State
from orchy.flow.machine import Verdict
from orchy.store.flows import Commit, Committed, FlowStore
from orchy.telemetry.unexpected import Where, note


class Prepared(Struct, frozen=True):
    """A commit that is ready to be sent. `reservations` are the workers that it hands attempts to; `size_bytes` is the
    approximate size of the flow in the store afterwards."""

    transition: Transition
    commit: Commit
    reservations: Sequence[Reservation]
    size_bytes: int
    before: CachedFlow | None = None
    envelopes: Sequence[Envelope] = ()
    answers: Sequence[Verdict | OrchyError] = ()


class Commits:
    """Prepares commits, makes them, and applies their consequences."""

    def __init__(
        self,
        *,
        store: FlowStore,
        cache: FlowCache,
        encode_action: EncodeAction,
        partition_of: Callable[[str], int],
        wakeups: Wakeups,
        hand_off: HandOff,
        observer: Observer,
        retain_ms: int,
        flow_bytes_max: int,
    ) -> None:
        self._store = store
        self._cache = cache
        self._encode_action = encode_action
        self._partition_of = partition_of
        self._wakeups = wakeups
        self._hand_off = hand_off
        self._observer = observer
        self._retain_ms = retain_ms
        self._flow_bytes_max = flow_bytes_max

    def prepare(
        self,
        transition: Transition,
        expected_version: int,
        before: CachedFlow | None = None,
        envelopes: Sequence[Envelope] = (),
        answers: Sequence[Verdict | OrchyError] = (),
        *,
        exact: bool = True,
    ) -> Prepared | None:
        """Build a commit. A flow that would exceed its size limit is failed instead.

        With `exact` false, `before.size_bytes` is only an estimate: None means that the flow may be too large, to be
        decided with its exact size.
        """
        commit = self._commit_of(transition, expected_version)
        size_bytes = _size_bytes(commit, before)
        if size_bytes > self._flow_bytes_max and has_outputs(commit):
            if not exact:
                return None
            transition = transition.outgrown(commit, size_bytes, self._flow_bytes_max)
            answers = [step_envelope(transition, envelope) for envelope in envelopes]
            commit = self._commit_of(transition, expected_version)
            size_bytes = _size_bytes(commit, before)
        reservations: Sequence[Reservation] = ()
        if transition.flow.state is not State.PAUSED:  # the commit that pauses a flow hands nothing out
            commit, reservations = reserve_workers(self._hand_off, commit)
        return Prepared(transition, commit, reservations, size_bytes, before, envelopes, answers)

    def _commit_of(self, transition: Transition, expected_version: int) -> Commit:
        transition.encode(self._encode_action)
        return build_commit(
            transition,
            partition=self._partition_of(transition.flow.id),
            expected_version=expected_version,
            retain_ms=self._retain_ms,
        )

    async def make(self, prepared: Prepared) -> Committed:
        """Make one commit. Raises what the store raises."""
        (outcome,) = await self._make_all([prepared])
        if isinstance(outcome, StoreError):
            raise outcome
        return outcome

    async def make_all(self, prepared: Sequence[Prepared]) -> list[Committed | StoreError]:
        """Make independent commits together. An unexpected exception becomes the outcome of all, never a raise."""
        try:
            return await self._make_all(prepared)
        except Exception as error:
            note(Where.COMMIT, ", ".join(one.commit.flow_id for one in prepared), error)
            return [OutcomeUnknown(f"an error in Orchy: {error!r}")] * len(prepared)

    async def _make_all(self, prepared: Sequence[Prepared]) -> list[Committed | StoreError]:
        """Make commits together, and settle their reservations.

        Shielded from cancellation, as other callers wait for the outcome and workers for their reservations. The
        store's timeout bounds the wait.
        """
        outcomes: Sequence[Committed | StoreError | None] = [None] * len(prepared)
        try:
            with trio.CancelScope(shield=True):
                outcomes = found = await self._store.commit_all([one.commit for one in prepared])
            return found
        finally:
            for one, outcome in zip(prepared, outcomes, strict=True):
                settle_reservations(one.reservations, one.commit, outcome)

    def apply(self, prepared: Prepared, committed: Committed) -> CachedFlow:
        """Apply a commit's consequences on this node: notify the observer and the wakeups, and update the cache."""
        now = self._notify(prepared, committed)
        if prepared.commit.retain_ms != 0:
            self._cache.put(now)
        return now

    def _notify(self, prepared: Prepared, committed: Committed) -> CachedFlow:
        transition, commit, before = prepared.transition, prepared.commit, prepared.before
        created_ms = before.created_ms if before else committed.time_ms
        ended_ms = None
        if transition.flow.state.over:
            ended_ms = before.ended_ms if before and before.ended_ms else committed.time_ms
        if commit.retain_ms is not None:
            self._observer.flow_ended(transition.flow.state)
        names = {entry.action_name for entry in commit.enqueue if entry.worker is None}.union(committed.unparked)
        if names:
            self._wakeups.enqueued(commit.partition, sorted(names))
        if commit.set_timers:
            self._wakeups.timer_set(commit.partition, min(timer.after_ms for timer in commit.set_timers))
        return CachedFlow(transition.flow, committed.version, created_ms, ended_ms, prepared.size_bytes)


def _size_bytes(commit: Commit, before: CachedFlow | None) -> int:
    """The size of the flow after the commit, or a little more, as fields that are replaced are counted twice."""
    return (before.size_bytes if before else 0) + sum(map(len, commit.fields.values()))


def step_envelope(
    transition: Transition, envelope: Envelope, overtaken: frozenset[str] = frozenset()
) -> Verdict | OrchyError:
    """Step an envelope's event. `overtaken` are the timers that have been moved since they were due."""
    if overtaken and envelope.timer(transition.flow.id) in overtaken:
        return Verdict.OVERTAKEN
    if envelope.workflow is not None and envelope.workflow != transition.flow.workflow:
        return NotFound(f"workflow {envelope.workflow!r} has no flow {transition.flow.id}")
    try:
        return transition.take(envelope.event)
    except (InvalidInput, WrongState) as error:
        return error.with_traceback(None)  # its traceback would keep the flow, and itself, alive until a collection
