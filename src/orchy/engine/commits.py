"""What leaves for the store: flows that were moved, as commits, and what these bring about on this node."""

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
    """A flow that was moved, and what is to be committed of it. `reservations` are for the attempts that have a worker;
    `size_bytes` is about what the flow has in the store then."""

    transition: Transition
    commit: Commit
    reservations: Sequence[Reservation]
    size_bytes: int
    before: CachedFlow | None = None
    envelopes: Sequence[Envelope] = ()
    answers: Sequence[Verdict | OrchyError] = ()


class Commits:
    """Prepares commits, makes them, and applies what they bring about."""

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
        """What is to be committed; a flow that would be larger than it may be fails with it. None: it may be too large,
        and (`exact` is false) its size is only about what `before` says."""
        commit = self._commit_of(transition, expected_version)
        size_bytes = _size_bytes(commit, before)
        if size_bytes > self._flow_bytes_max and has_outputs(commit):
            if not exact:
                return None
            transition = transition.outgrown(commit, size_bytes, self._flow_bytes_max)
            answers = [step_envelope(transition, envelope) for envelope in envelopes]
            commit = self._commit_of(transition, expected_version)
            size_bytes = _size_bytes(commit, before)
        kept: Sequence[Reservation] = ()
        if transition.flow.state is not State.PAUSED:  # by the same commit: nothing is handed out with it
            commit, kept = reserve_workers(self._hand_off, commit)
        return Prepared(transition, commit, kept, size_bytes, before, envelopes, answers)

    def _commit_of(self, transition: Transition, expected_version: int) -> Commit:
        transition.encode(self._encode_action)
        return build_commit(
            transition,
            partition=self._partition_of(transition.flow.id),
            expected_version=expected_version,
            retain_ms=self._retain_ms,
        )

    async def make(self, prepared: Prepared) -> Committed:
        """Make one. Raises what the store raises."""
        (outcome,) = await self._make_all([prepared])
        if isinstance(outcome, StoreError):
            raise outcome
        return outcome

    async def make_all(self, prepared: Sequence[Prepared]) -> list[Committed | StoreError]:
        """Make commits that have nothing to do with each other, together, so that no exception of one is another's."""
        try:
            return await self._make_all(prepared)
        except Exception as error:
            note(Where.COMMIT, ", ".join(one.commit.flow_id for one in prepared), error)
            return [OutcomeUnknown(f"an error in Orchy: {error!r}")] * len(prepared)

    async def _make_all(self, prepared: Sequence[Prepared]) -> list[Committed | StoreError]:
        """Make them, each for itself, together; a caller that is cancelled meanwhile leaves when it is done.

        Others wait for what comes of it, and what is handed out is not let go of. The store's time limit bounds that.
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
        """Do what a commit brings about on this node: who is to know is told, and the flow is kept as it is now."""
        now = self._tell(prepared, committed)
        if prepared.commit.retain_ms != 0:
            self._cache.put(now)
        return now

    def _tell(self, prepared: Prepared, committed: Committed) -> CachedFlow:
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
    """What the flow has in the store with it, or a little more: what it replaces is counted too."""
    return (before.size_bytes if before else 0) + sum(map(len, commit.fields.values()))


def step_envelope(
    transition: Transition, envelope: Envelope, overtaken: frozenset[str] = frozenset()
) -> Verdict | OrchyError:
    """What comes of an event. `overtaken` are the timers that somebody has moved since they were due."""
    if overtaken and envelope.timer(transition.flow.id) in overtaken:
        return Verdict.OVERTAKEN
    if envelope.workflow is not None and envelope.workflow != transition.flow.workflow:
        return NotFound(f"workflow {envelope.workflow!r} has no flow {transition.flow.id}")
    try:
        return transition.take(envelope.event)
    except (InvalidInput, WrongState) as error:
        return error.with_traceback(None)  # else it would hold the flow, and itself, until the garbage is collected
