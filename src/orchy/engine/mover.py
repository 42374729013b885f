"""The only place where a flow is loaded, stepped and committed.

What happens to one flow on this node happens one after the other: events that arrive together are stepped together and
leave in one commit (`Mailbox`). Between nodes the store decides who was first; the one who was not loads the flow
again and steps again. So does one whose commit got no answer: the machine knows what has counted already.

Scripts run between two steps and before the commit, so that a chain of quick system actions costs one commit; after
EVALUATIONS_PER_COMMIT of them the flow is committed and goes on by a timer (see `stepping`).

An exception that nobody foresaw is the affair of the one flow, start or commit that met it (see `quarantine`).

Why it is fast: events of many flows (`post_all`) are stepped one after the other without a task for each, and their
commits leave in one write; flows that are not at hand, or that somebody else moves just now, go the long way. What a
commit makes for a worker that waits, the commit itself hands out (`HandOff`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from msgspec.structs import replace

from orchy.actions.javascript.port import JavaScriptEngine
from orchy.engine.catalog import Catalog
from orchy.engine.commits import Commits, Prepared, step_envelope
from orchy.engine.flow_cache import CachedFlow, FlowCache
from orchy.engine.loading import load_flow
from orchy.engine.mailbox import Envelope, Mailbox, Mailboxes
from orchy.engine.ports import HandOff, Observer, Wakeups
from orchy.engine.quarantine import Failures
from orchy.engine.starting import Begun, NewFlow, same_start
from orchy.engine.stepping import Stepper
from orchy.engine.transition import EncodeAction, Transition
from orchy.errors import (
    FlowFault,
    NotFound,
    OrchyError,
    OutcomeUnknown,
    StoreError,
    StoreUnavailable,
    TimerMoved,
    VersionConflict,
)
from orchy.flow.budget import SMALL_WORK_MAX
from orchy.flow.draft import Rules
from orchy.flow.events import Started
from orchy.flow.limits import USUAL, Limits
from orchy.flow.machine import Verdict
from orchy.flow.system import SystemAction
from orchy.runtime.gather import gather
from orchy.store.flows import Committed, FlowStore
from orchy.telemetry.unexpected import Where, note

#: How often a commit is tried again after somebody else was first, or after its answer was lost.
TRIES_MAX = 10
#: How many flows are stepped in one go. More gain little, and all else that the node does waits for its turn.
FLOWS_AT_ONCE = 32
#: How many such groups are under way: one is stepped while the store has the other one.
GROUPS_AT_ONCE = 2


class Mover:
    """Moves flows. Safe to use from many tasks; holds nothing that can't be lost."""

    def __init__(
        self,
        *,
        store: FlowStore,
        catalog: Catalog,
        system_actions: Mapping[str, SystemAction],
        engine: JavaScriptEngine,
        encode_action: EncodeAction,
        partition_of: Callable[[str], int],
        wakeups: Wakeups,
        hand_off: HandOff,
        observer: Observer,
        retain_ms: int,
        default_timeout_seconds: float,
        batch_size: int,
        limits: Limits = USUAL,
    ) -> None:
        self._store = store
        self._catalog = catalog
        self._system_actions = system_actions
        self._partition_of = partition_of
        self._observer = observer
        self._default_timeout_seconds = default_timeout_seconds
        self._batch_size = batch_size
        self._cache = FlowCache()
        self._mailboxes = Mailboxes()
        self._stepper = Stepper(engine)
        self._failures = Failures(store, partition_of)
        self._limits = limits
        self._commits = Commits(
            store=store,
            encode_action=encode_action,
            partition_of=partition_of,
            wakeups=wakeups,
            hand_off=hand_off,
            observer=observer,
            retain_ms=retain_ms,
            flow_bytes_max=limits.flow_bytes_max,
        )

    # Starts.

    async def start(self, new: NewFlow) -> Begun:
        """Make a flow; it is durable then. One whose id exists is left as it is.

        Raises WrongState if that one is another flow (see `same_start`), and what the store raises. After a try whose
        answer was lost, a flow that is found counts as made by it.
        """
        try:
            return await self._start(new)
        except OrchyError:
            raise
        except Exception as error:
            note(Where.START, f"flow {new.flow.id} of {new.flow.workflow}", error)
            raise FlowFault(f"an error in Orchy ({error!r}); the server's log has more") from error

    async def _start(self, new: NewFlow) -> Begun:
        flow, unsure = new.flow, isinstance(new.first_try, OutcomeUnknown)
        if isinstance(new.first_try, VersionConflict):
            return await self._started_before(new, unsure)
        rules = await self._rules()
        for _ in range(TRIES_MAX):
            transition, _ = await self._stepper.step(
                new.graph, flow, rules, lambda transition: transition.take(Started())
            )
            await self._stepper.evaluate(transition)
            prepared = self._commits.prepare(transition, expected_version=0)
            assert prepared is not None
            try:
                committed = await self._commit(prepared)
            except VersionConflict:
                return await self._started_before(new, unsure)
            except OutcomeUnknown as unknown:
                unsure = True
                try:
                    there = await self._there(new, unsure)
                except StoreError:
                    raise OutcomeUnknown(f"flow {flow.id} may have been started: {unknown}") from None
                if there is not None:
                    return there
                continue
            return self._started(prepared, committed)
        raise StoreUnavailable(f"flow {flow.id} could not be started: the store lost its answer {TRIES_MAX} times")

    async def _started_before(self, new: NewFlow, created: bool) -> Begun:
        # What is not there any more was removed a short while ago; nobody knows what it was.
        return await self._there(new, created) or Begun(new.flow.id, created, new.flow.workflow_version)

    async def _there(self, new: NewFlow, created: bool) -> Begun | None:
        try:
            there = await load_flow(self._store, self._partition_of(new.flow.id), new.flow.id)
        except NotFound:
            return None
        return same_start(there.flow, new.flow, version_given=new.version_given, created=created)

    def _started(self, prepared: Prepared, committed: Committed) -> Begun:
        self._observer.flow_started()
        self._after(prepared, committed)
        flow = prepared.transition.flow
        return Begun(flow.id, True, flow.workflow_version)

    async def start_all(self, flows: Sequence[NewFlow]) -> list[Begun | OrchyError | NewFlow]:
        """Make flows whose commits leave together (callers keep to FLOWS_AT_ONCE): of each what `start` answers or
        raises, or itself where more is to be done than one commit: `start` does it."""
        rules = await self._rules()
        outcomes: list[Begun | OrchyError | NewFlow] = list(flows)
        prepared: dict[int, Prepared] = {}
        for index, new in enumerate(flows):
            one = self._prepare_start(new, rules)
            if one is not None:
                prepared[index] = one
        for index, outcome in zip(prepared, await self._make_all(list(prepared.values())), strict=True):
            if isinstance(outcome, Committed):
                outcomes[index] = self._started(prepared[index], outcome)
            elif isinstance(outcome, VersionConflict | OutcomeUnknown):
                outcomes[index] = replace(flows[index], first_try=outcome)
            else:
                outcomes[index] = outcome
        return outcomes

    def _prepare_start(self, new: NewFlow, rules: Rules) -> Prepared | None:
        """The first commit of a flow; None: it has to go the long way."""
        try:
            transition = Transition(new.graph, new.flow, rules, SMALL_WORK_MAX)
            transition.take(Started())
            if transition.has_scripts or transition.meter.exhausted:
                return None
            return self._commits.prepare(transition, expected_version=0)
        except Exception:  # it is met again there, where it is nobody else's
            return None

    # Events.

    async def post(self, flow_id: str, envelope: Envelope) -> tuple[Verdict, CachedFlow]:
        """Have an event taken in, together with whatever else waits for the same flow.

        Raises NotFound, InvalidInput, and what the store raises.
        """
        prepared = self._prepare_at_once(flow_id, [envelope], await self._rules())
        if prepared is None or await self._commit_prepared([prepared]):
            await self.wait_in_line(flow_id, envelope)
        answer, flow = envelope.answer, envelope.flow
        if isinstance(answer, OrchyError):
            envelope.answer = envelope.flow = flow = None
            try:
                raise answer
            finally:
                del answer  # its traceback has this frame
        assert answer is not None
        assert flow is not None
        return answer, flow

    async def wait_in_line(self, flow_id: str, envelope: Envelope) -> None:
        """Have an event taken in, after and with what waits for the flow already; the letter has its answer then."""
        with self._mailboxes.of(flow_id) as mailbox:
            mailbox.envelopes.append(envelope)
            try:
                async with mailbox.lock:
                    while envelope.answer is None:
                        await self._take_envelopes(flow_id, mailbox)
            finally:
                envelope.withdrawn = True
                if envelope.answer is None and envelope in mailbox.envelopes:
                    mailbox.envelopes.remove(envelope)

    async def post_all(self, envelopes: Mapping[str, Sequence[Envelope]]) -> None:
        """Have the events of many flows taken in; the letters have their answers then."""
        left = await self.post_at_once(envelopes)

        async def finish(item: tuple[str, Envelope]) -> None:
            await self.wait_in_line(*item)

        await gather(finish, [(flow_id, envelope) for flow_id in left for envelope in envelopes[flow_id]])

    async def post_at_once(self, envelopes: Mapping[str, Sequence[Envelope]]) -> list[str]:
        """The same as far as one commit for each flow goes; the flows whose letters are to wait in line then."""
        flow_ids = list(envelopes)
        rules = await self._rules()

        async def take(group: Sequence[str]) -> list[str]:
            left: list[str] = []
            prepared: list[Prepared] = []
            for flow_id in group:
                one = self._prepare_at_once(flow_id, envelopes[flow_id], rules)
                if one is None:
                    left.append(flow_id)
                else:
                    prepared.append(one)
            return left + await self._commit_prepared(prepared)

        groups = [flow_ids[first : first + FLOWS_AT_ONCE] for first in range(0, len(flow_ids), FLOWS_AT_ONCE)]
        return [flow_id for left in await gather(take, groups, GROUPS_AT_ONCE) for flow_id in left]

    def _prepare_at_once(self, flow_id: str, envelopes: Sequence[Envelope], rules: Rules) -> Prepared | None:
        """What the events of a flow come to, if that can be had without waiting; nothing has happened otherwise."""
        cached = None if flow_id in self._mailboxes else self._cache.get(flow_id)
        if cached is None or len(envelopes) > self._batch_size:
            return None
        graph = self._catalog.compiled(cached.flow.workflow, cached.flow.workflow_version)
        if graph is None:
            return None
        try:
            transition = Transition(graph, cached.flow, rules, SMALL_WORK_MAX)
            answers = [step_envelope(transition, envelope) for envelope in envelopes]
            if transition.has_scripts or transition.meter.exhausted or not transition.changed:
                return None
            return self._commits.prepare(transition, cached.version, cached, envelopes, answers, exact=False)
        except Exception:  # it is met again on the long way, where it is nobody else's
            return None

    async def _commit_prepared(self, prepared: Sequence[Prepared]) -> list[str]:
        """Commit flows together and answer their letters; the ids of those that must go the long way."""
        left: list[str] = []
        mailboxes = [self._mailboxes.enter(one.commit.flow_id) for one in prepared]
        for one, mailbox in zip(prepared, mailboxes, strict=True):
            mailbox.lock.acquire_nowait()  # nobody had it: there was no mailbox
            self._cache.drop(one.commit.flow_id)
        try:
            for one, outcome in zip(prepared, await self._make_all(prepared), strict=True):
                if isinstance(outcome, VersionConflict | OutcomeUnknown):
                    left.append(one.commit.flow_id)
                    if isinstance(outcome, OutcomeUnknown):
                        _note_unsure(one.envelopes, one.answers)
                    continue
                now = self._after(one, outcome) if isinstance(outcome, Committed) else None
                for envelope, answer in zip(one.envelopes, one.answers, strict=True):
                    envelope.answer, envelope.flow = outcome if isinstance(outcome, StoreError) else answer, now
        finally:
            for one, mailbox in zip(prepared, mailboxes, strict=True):
                mailbox.lock.release()
                self._mailboxes.leave(one.commit.flow_id, mailbox)
        return left

    async def _take_envelopes(self, flow_id: str, mailbox: Mailbox) -> None:
        """Answer the letters that wait, at most a batch, with one commit."""
        envelopes = [mailbox.envelopes.popleft() for _ in range(min(len(mailbox.envelopes), self._batch_size))]
        try:
            await self._move_guarded(flow_id, envelopes)
        except OrchyError as error:
            for envelope in envelopes:
                envelope.answer = envelope.answer or error.with_traceback(None)
        finally:
            # Cancelled before the commit was sent: whoever waits next begins again with them.
            mailbox.envelopes.extendleft(
                envelope for envelope in reversed(envelopes) if envelope.answer is None and not envelope.withdrawn
            )

    async def _move_guarded(self, flow_id: str, envelopes: Sequence[Envelope]) -> None:
        """Move a flow; an exception that nobody foresaw is that flow's affair, and if it can be, that letter's."""
        try:
            await self._move(flow_id, envelopes)
        except OrchyError:
            raise
        except Exception as error:
            if len(envelopes) == 1:
                raise await self._failures.failed(flow_id, error) from error
            for envelope in envelopes:
                try:
                    await self._move_guarded(flow_id, [envelope])
                except OrchyError as one:
                    envelope.answer = one.with_traceback(None)

    async def _move(self, flow_id: str, envelopes: Sequence[Envelope]) -> None:
        rules = await self._rules()
        overtaken: frozenset[str] = frozenset()  # timers that somebody has moved since they were due
        for _ in range(TRIES_MAX):
            seen = self._cache.get(flow_id)
            cached = seen or await load_flow(self._store, self._partition_of(flow_id), flow_id)
            graph = await self._catalog.graph_of_flow(cached.flow.workflow, cached.flow.workflow_version)
            transition, answers = await self._stepper.step(graph, cached.flow, rules, _stepping(envelopes, overtaken))
            await self._stepper.evaluate(transition)
            if transition.changed:
                prepared = self._commits.prepare(
                    transition, cached.version, cached, envelopes, answers, exact=seen is None
                )
                self._cache.drop(flow_id)  # unless the commit is answered, nobody knows what the flow is
                if prepared is None:
                    continue  # how large it is exactly, the store knows
                answers = prepared.answers
                try:
                    committed = await self._commit(prepared)
                except TimerMoved as error:
                    overtaken |= error.timers
                    continue
                except VersionConflict:
                    continue
                except OutcomeUnknown:
                    _note_unsure(envelopes, answers)
                    continue
                cached = self._after(prepared, committed)
            elif seen is not None:
                # No commit will find out whether what was seen is old, and "nothing to do" may be wrong by now.
                self._cache.drop(flow_id)
                continue
            for envelope, answer in zip(envelopes, answers, strict=True):
                envelope.answer, envelope.flow = answer, cached
            return
        raise StoreUnavailable(f"flow {flow_id} could not be moved: others were first, {TRIES_MAX} times")

    async def _rules(self) -> Rules:
        definitions = await self._catalog.definitions()
        return Rules(self._system_actions, definitions, self._default_timeout_seconds, self._limits)

    # Commits.

    async def _commit(self, prepared: Prepared) -> Committed:
        (outcome,) = await self._commits.make_all([prepared])
        if isinstance(outcome, StoreError):
            raise outcome
        return outcome

    async def _make_all(self, prepared: Sequence[Prepared]) -> list[Committed | StoreError]:
        """Make commits that have nothing to do with each other, so that no exception of one is another's."""
        try:
            return await self._commits.make_all(prepared)
        except Exception as error:
            note(Where.COMMIT, ", ".join(one.commit.flow_id for one in prepared), error)
            return [OutcomeUnknown(f"an error in Orchy: {error!r}")] * len(prepared)

    def _after(self, prepared: Prepared, committed: Committed) -> CachedFlow:
        """What a commit brings about on this node."""
        now = self._commits.tell_of(prepared, committed)
        if prepared.commit.retain_ms != 0:
            self._cache.put(now)
        return now

    def forget(self) -> None:
        """Load each flow anew: the store is not what it was."""
        self._cache.clear()

    async def flow(self, flow_id: str, *, seen: bool = True) -> CachedFlow:
        """A flow as this node saw it last, if it did (or `seen` is False), or as the store has it. Raises NotFound."""
        cached = self._cache.get(flow_id) if seen else None
        return cached or await load_flow(self._store, self._partition_of(flow_id), flow_id)


def _stepping(
    envelopes: Sequence[Envelope], overtaken: frozenset[str]
) -> Callable[[Transition], Sequence[Verdict | OrchyError]]:
    return lambda transition: [step_envelope(transition, envelope, overtaken) for envelope in envelopes]


def _note_unsure(envelopes: Sequence[Envelope], answers: Sequence[Verdict | OrchyError]) -> None:
    for envelope, answer in zip(envelopes, answers, strict=True):
        envelope.note_unsure(answer)
