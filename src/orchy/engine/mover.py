"""The only place where a flow is loaded, stepped and committed.

On one node, the events of a flow are handled sequentially: those that arrive together are stepped together and leave in
one commit (`Mailbox`). Between nodes, the store decides which commit was first; the loser loads the flow and steps
again. A commit whose answer was lost is tried again, too: the machine recognizes events that have counted already.

Deferred work (scripts) is done between steps and before the commit, so that a chain of fast system actions costs one
commit; after a number of them the flow is committed and continues by a timer (see `stepping`).

An unexpected exception affects only the flow, start or commit that raised it (see `quarantine`).

The fast path: the events of many flows (`post_fast`) are stepped without a task for each, and their commits leave in
one write. Flows that are not cached, or that are being moved already, take the slow path (`post_slow`). A commit hands
new attempts directly to workers that wait for them (`HandOff`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from orchy.engine.catalog import Catalog
from orchy.engine.commits import Commits, Prepared, step_envelope
from orchy.engine.flow_cache import CachedFlow, FlowCache
from orchy.engine.limits import FLOWS_AT_ONCE, GROUPS_AT_ONCE, TRIES_MAX
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
from orchy.runtime.gather import gather, gather_groups
from orchy.store.flows import Committed, FlowStore


class Mover:
    """Moves flows. Safe to use from many tasks; holds only state that may be lost."""

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
        """Step a flow with an event, together with the events that already wait for it.

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
        """Step a flow with an event, after those that already wait for it. Afterwards the envelope has its answer."""
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
        """Step many flows with their events. Afterwards the envelopes have their answers."""
        left = await self.post_fast(envelopes)

        async def finish(item: tuple[str, Envelope]) -> None:
            await self.post_slow(*item)

        await gather(finish, [(flow_id, envelope) for flow_id in left for envelope in envelopes[flow_id]])

    async def post_fast(self, envelopes: Mapping[str, Sequence[Envelope]]) -> list[str]:
        """The same on the fast path only: one commit for each flow. Gives the flows that need the slow path."""
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

        return await gather_groups(take, list(envelopes), FLOWS_AT_ONCE, GROUPS_AT_ONCE)

    def _prepare_fast(self, flow_id: str, envelopes: Sequence[Envelope], rules: Rules) -> Prepared | None:
        """Step a flow without waiting; None if it needs the slow path, with no side effects."""
        cached = None if flow_id in self._mailboxes else self._cache.get(flow_id)
        if cached is None or len(envelopes) > self._batch_size:
            return None
        graph = self._catalog.compiled(cached.flow.workflow, cached.flow.workflow_version)
        if graph is None:
            return None
        try:
            transition = self._stepper.small_transition(graph, cached.flow, rules)
            answers = [step_envelope(transition, envelope) for envelope in envelopes]
            if transition.has_deferred or transition.meter.exhausted or not transition.changed:
                return None
            return self._commits.prepare(transition, cached.version, cached, envelopes, answers, exact=False)
        except Exception:  # the slow path meets it again, and handles it for this flow alone
            return None

    async def _commit_prepared(self, prepared: Sequence[Prepared]) -> list[str]:
        """Commit flows together and answer their envelopes. Gives the ids of those that need the slow path."""
        left: list[str] = []
        mailboxes = [self._mailboxes.enter(one.commit.flow_id) for one in prepared]
        for one, mailbox in zip(prepared, mailboxes, strict=True):
            mailbox.lock.acquire_nowait()  # it is free, as the mailbox is new
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
        """Answer the waiting envelopes, at most a batch, with one commit."""
        envelopes = [mailbox.envelopes.popleft() for _ in range(min(len(mailbox.envelopes), self._batch_size))]
        try:
            await self._move_guarded(flow_id, envelopes)
        except OrchyError as error:
            for envelope in envelopes:
                envelope.answer = envelope.answer or error.with_traceback(None)
        finally:
            # Cancelled before the commit was sent: the next holder of the lock starts over with them.
            mailbox.envelopes.extendleft(
                envelope for envelope in reversed(envelopes) if envelope.answer is None and not envelope.withdrawn
            )

    async def _move_guarded(self, flow_id: str, envelopes: Sequence[Envelope]) -> None:
        """Move a flow. An unexpected exception affects this flow only and, if possible, a single envelope."""
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
        overtaken: frozenset[str] = frozenset()  # timers that have been moved since they were due
        for _ in range(TRIES_MAX):
            from_cache = self._cache.get(flow_id)
            cached = from_cache or await load_flow(self._store, self._partition_of(flow_id), flow_id)
            graph = await self._catalog.graph_of_flow(cached.flow.workflow, cached.flow.workflow_version)
            transition, answers = await self._stepper.step(graph, cached.flow, rules, _stepping(envelopes, overtaken))
            await self._stepper.run_deferred(transition)
            if transition.changed:
                prepared = self._commits.prepare(
                    transition, cached.version, cached, envelopes, answers, exact=from_cache is None
                )
                self._cache.drop(flow_id)  # its state is unknown until the commit is answered
                if prepared is None:
                    continue  # load the flow for its exact size
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
            elif from_cache is not None:
                # Without a commit an outdated cache would go unnoticed: decide "nothing to do" on the stored flow.
                self._cache.drop(flow_id)
                continue
            for envelope, answer in zip(envelopes, answers, strict=True):
                envelope.answer, envelope.flow = answer, cached
            return
        raise StoreUnavailable(f"flow {flow_id} could not be moved: others were first, {TRIES_MAX} times")

    def forget(self) -> None:
        """Drop all cached flows, because the store may hold other data now."""
        self._cache.clear()

    async def flow(self, flow_id: str, *, allow_cached: bool = True) -> CachedFlow:
        """A flow from the cache, if allowed and there, or else from the store. Raises NotFound."""
        cached = self._cache.get(flow_id) if allow_cached else None
        return cached or await load_flow(self._store, self._partition_of(flow_id), flow_id)


def _stepping(
    envelopes: Sequence[Envelope], overtaken: frozenset[str]
) -> Callable[[Transition], Sequence[Verdict | OrchyError]]:
    return lambda transition: [step_envelope(transition, envelope, overtaken) for envelope in envelopes]


def _note_unsure(envelopes: Sequence[Envelope], answers: Sequence[Verdict | OrchyError]) -> None:
    for envelope, answer in zip(envelopes, answers, strict=True):
        envelope.note_unsure(answer)
