"""The only place where a flow is loaded, stepped and committed.

What happens to one flow on this node happens one after the other: events that arrive together are stepped together and
leave in one commit (`Mailbox`). Between nodes the store decides who was first; the one who was not loads the flow
again and steps again. So does one whose commit got no answer: the machine knows what has counted already.

Deferred work (scripts) is done between two steps and before the commit, so that a chain of quick system actions costs
one commit; after a number of them the flow is committed and goes on by a timer (see `stepping`).

An exception that nobody foresaw is the affair of the one flow, start or commit that met it (see `quarantine`).

Why it is fast: events of many flows (`post_all`) are stepped one after the other without a task for each, and their
commits leave in one write; flows that are not at hand, or that somebody else moves just now, go the long way. What a
commit makes for a worker that waits, the commit itself hands out (`HandOff`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from orchy.engine.catalog import Catalog
from orchy.engine.commits import Commits, Prepared, step_envelope
from orchy.engine.flow_cache import CachedFlow, FlowCache
from orchy.engine.loading import load_flow
from orchy.engine.mailbox import Envelope, Mailbox, Mailboxes
from orchy.engine.quarantine import Failures
from orchy.engine.rule_book import RuleBook
from orchy.engine.stepping import Stepper
from orchy.engine.transition import Transition
from orchy.errors import (
    OrchyError,
    OutcomeUnknown,
    StoreError,
    StoreUnavailable,
    TimerMoved,
    VersionConflict,
)
from orchy.flow.draft import Rules
from orchy.flow.machine import Verdict
from orchy.runtime.gather import gather
from orchy.store.flows import Committed, FlowStore

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
        cache: FlowCache,
        catalog: Catalog,
        rules: RuleBook,
        stepper: Stepper,
        commits: Commits,
        partition_of: Callable[[str], int],
        batch_size: int,
    ) -> None:
        self._store = store
        self._cache = cache
        self._catalog = catalog
        self._rules = rules
        self._stepper = stepper
        self._commits = commits
        self._partition_of = partition_of
        self._batch_size = batch_size
        self._mailboxes = Mailboxes()
        self._failures = Failures(store, partition_of)

    async def post(self, flow_id: str, envelope: Envelope) -> tuple[Verdict, CachedFlow]:
        """Have an event taken in, together with whatever else waits for the same flow.

        Raises NotFound, InvalidInput, and what the store raises.
        """
        prepared = self._prepare_fast(flow_id, [envelope], await self._rules.current())
        if prepared is None or await self._commit_prepared([prepared]):
            await self.post_slow(flow_id, envelope)
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

    async def post_slow(self, flow_id: str, envelope: Envelope) -> None:
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
        left = await self.post_fast(envelopes)

        async def finish(item: tuple[str, Envelope]) -> None:
            await self.post_slow(*item)

        await gather(finish, [(flow_id, envelope) for flow_id in left for envelope in envelopes[flow_id]])

    async def post_fast(self, envelopes: Mapping[str, Sequence[Envelope]]) -> list[str]:
        """The same as far as one commit for each flow goes; the flows whose letters are to wait in line then."""
        flow_ids = list(envelopes)
        rules = await self._rules.current()

        async def take(group: Sequence[str]) -> list[str]:
            left: list[str] = []
            prepared: list[Prepared] = []
            for flow_id in group:
                one = self._prepare_fast(flow_id, envelopes[flow_id], rules)
                if one is None:
                    left.append(flow_id)
                else:
                    prepared.append(one)
            return left + await self._commit_prepared(prepared)

        groups = [flow_ids[first : first + FLOWS_AT_ONCE] for first in range(0, len(flow_ids), FLOWS_AT_ONCE)]
        return [flow_id for left in await gather(take, groups, GROUPS_AT_ONCE) for flow_id in left]

    def _prepare_fast(self, flow_id: str, envelopes: Sequence[Envelope], rules: Rules) -> Prepared | None:
        """What the events of a flow come to, if that can be had without waiting; nothing has happened otherwise."""
        cached = None if flow_id in self._mailboxes else self._cache.get(flow_id)
        if cached is None or len(envelopes) > self._batch_size:
            return None
        graph = self._catalog.compiled(cached.flow.workflow, cached.flow.workflow_version)
        if graph is None:
            return None
        try:
            transition = self._stepper.small(graph, cached.flow, rules)
            answers = [step_envelope(transition, envelope) for envelope in envelopes]
            if transition.has_deferred or transition.meter.exhausted or not transition.changed:
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
            for one, outcome in zip(prepared, await self._commits.make_all(prepared), strict=True):
                if isinstance(outcome, VersionConflict | OutcomeUnknown):
                    left.append(one.commit.flow_id)
                    if isinstance(outcome, OutcomeUnknown):
                        _note_unsure(one.envelopes, one.answers)
                    continue
                now = self._commits.apply(one, outcome) if isinstance(outcome, Committed) else None
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
        rules = await self._rules.current()
        overtaken: frozenset[str] = frozenset()  # timers that somebody has moved since they were due
        for _ in range(TRIES_MAX):
            seen = self._cache.get(flow_id)
            cached = seen or await load_flow(self._store, self._partition_of(flow_id), flow_id)
            graph = await self._catalog.graph_of_flow(cached.flow.workflow, cached.flow.workflow_version)
            transition, answers = await self._stepper.step(graph, cached.flow, rules, _stepping(envelopes, overtaken))
            await self._stepper.run_deferred(transition)
            if transition.changed:
                prepared = self._commits.prepare(
                    transition, cached.version, cached, envelopes, answers, exact=seen is None
                )
                self._cache.drop(flow_id)  # unless the commit is answered, nobody knows what the flow is
                if prepared is None:
                    continue  # how large it is exactly, the store knows
                answers = prepared.answers
                try:
                    committed = await self._commits.make(prepared)
                except TimerMoved as error:
                    overtaken |= error.timers
                    continue
                except VersionConflict:
                    continue
                except OutcomeUnknown:
                    _note_unsure(envelopes, answers)
                    continue
                cached = self._commits.apply(prepared, committed)
            elif seen is not None:
                # No commit will find out whether what was seen is old, and "nothing to do" may be wrong by now.
                self._cache.drop(flow_id)
                continue
            for envelope, answer in zip(envelopes, answers, strict=True):
                envelope.answer, envelope.flow = answer, cached
            return
        raise StoreUnavailable(f"flow {flow_id} could not be moved: others were first, {TRIES_MAX} times")

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
