"""The only place where a flow is loaded, stepped and committed.

What happens to one flow on this node happens one after the other: events that arrive together are stepped together and
leave in one commit (`Mailbox`). Between nodes the store decides who was first; the one who was not loads the flow
again and steps again. So does one whose commit got no answer: the machine knows what has counted already.

Scripts run between two steps and before the commit (`stepping`), so that a chain of quick system actions costs one
commit; after EVALUATIONS_PER_COMMIT of them the flow is committed and goes on by a timer.

Why it is fast: events of many flows (`post_all`) are stepped one after the other without a task for each, and their
commits leave in one write; flows that are not at hand, or that somebody else moves just now, go the long way. What a
commit makes for a worker that waits, the commit itself hands out (`Takers`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from msgspec import Struct

from orchy.actions.javascript.port import JavaScriptEngine
from orchy.catalog import Catalog
from orchy.errors import (
    FlowFault,
    OrchyError,
    OutcomeUnknown,
    StoreError,
    StoreUnavailable,
    VersionConflict,
)
from orchy.flow.budget import SMALL_WORK_MAX
from orchy.flow.draft import Rules
from orchy.flow.events import Started
from orchy.flow.execution import Flow, State
from orchy.flow.graph import Graph
from orchy.flow.machine import Verdict
from orchy.flow.system import SystemAction
from orchy.flowcache import CachedFlow, FlowCache
from orchy.handing import keep_places, shielded, tell
from orchy.mailbox import Letter, Mailbox
from orchy.ports import Observer, Taker, Takers, Wakeups
from orchy.quarantine import Failures
from orchy.queries import load_flow
from orchy.stepping import Stepper, step_letter
from orchy.store.base import Commit, Committed, FlowStore
from orchy.tasks import gather
from orchy.transition import EncodeAction, Moved, build_commit
from orchy.unforeseen import Where, note

#: How often a commit is tried again after somebody else was first, or after its answer was lost.
TRIES_MAX = 10
#: How many flows are stepped in one go. More gain little, and all else that the node does waits for its turn.
FLOWS_AT_ONCE = 32
#: How many such groups are under way: one is stepped while the store has the other one.
GROUPS_AT_ONCE = 2


class _Prepared(Struct, frozen=True):
    """A flow that was moved, and what is to be committed of it. `takers` wait for the attempts that have a worker."""

    moved: Moved
    commit: Commit
    takers: Sequence[Taker]
    before: CachedFlow | None = None
    letters: Sequence[Letter] = ()
    answers: Sequence[Verdict | OrchyError] = ()


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
        takers: Takers,
        observer: Observer,
        retain_ms: int,
        default_timeout_seconds: float,
        batch_size: int,
    ) -> None:
        self._store = store
        self._catalog = catalog
        self._system_actions = system_actions
        self._encode_action = encode_action
        self._partition_of = partition_of
        self._wakeups = wakeups
        self._takers = takers
        self._observer = observer
        self._retain_ms = retain_ms
        self._default_timeout_seconds = default_timeout_seconds
        self._batch_size = batch_size
        self._cache = FlowCache()
        self._mailboxes: dict[str, Mailbox] = {}
        self._stepper = Stepper(engine)
        self._failures = Failures(store, partition_of)

    # Starts.

    async def start(self, graph: Graph, flow: Flow) -> None:
        """Make a flow; it is durable then. One whose id exists is left as it is. Raises what the store raises."""
        rules = await self._rules()
        for _ in range(TRIES_MAX):
            moved, _ = await self._stepper.step(graph, flow, rules, lambda moved: moved.take(Started()))
            await self._stepper.evaluate(moved)
            prepared = self._prepare(moved, expected_version=0)
            try:
                committed = await self._commit(prepared)
            except VersionConflict:
                return  # it was started before
            except OutcomeUnknown as unknown:
                try:
                    stored = await self._store.load(prepared.commit.partition, flow.id)
                except StoreError:
                    raise OutcomeUnknown(f"flow {flow.id} may have been started: {unknown}") from None
                if stored is not None:
                    return
                continue
            self._observer.flow_started()
            self._after(prepared, committed)
            return
        raise StoreUnavailable(f"flow {flow.id} could not be started: the store lost its answer {TRIES_MAX} times")

    async def start_all(self, flows: Sequence[tuple[Graph, Flow]]) -> list[OrchyError | None]:
        """Make flows whose commits leave together (callers keep to FLOWS_AT_ONCE); of each why it could not be made."""
        rules = await self._rules()
        outcomes: list[OrchyError | None] = [None] * len(flows)
        long_way: list[int] = []
        prepared: dict[int, _Prepared] = {}
        for index, (graph, flow) in enumerate(flows):
            one = self._prepare_start(graph, flow, rules)
            if one is None:
                long_way.append(index)
            else:
                prepared[index] = one
        for index, outcome in zip(prepared, await self._try_commit_all(list(prepared.values())), strict=True):
            if isinstance(outcome, Committed):
                self._observer.flow_started()
                self._after(prepared[index], outcome)
            elif isinstance(outcome, OutcomeUnknown):
                long_way.append(index)
            elif not isinstance(outcome, VersionConflict):
                outcomes[index] = outcome

        async def start(index: int) -> None:
            try:
                await self.start(*flows[index])
            except OrchyError as error:
                outcomes[index] = error
            except Exception as error:
                flow = flows[index][1]
                note(Where.START, f"flow {flow.id} of {flow.workflow}", error)
                outcomes[index] = FlowFault(f"an error in Orchy ({error!r}); the server's log has more")

        await gather(start, long_way)
        return outcomes

    def _prepare_start(self, graph: Graph, flow: Flow, rules: Rules) -> _Prepared | None:
        """The first commit of a flow; None: it has to go the long way."""
        try:
            moved = Moved(graph, flow, rules, SMALL_WORK_MAX)
            moved.take(Started())
            if moved.has_scripts or moved.meter.exhausted:
                return None
            return self._prepare(moved, expected_version=0)
        except Exception:  # it is met again there, where it is nobody else's
            return None

    # Events.

    async def post(self, flow_id: str, letter: Letter) -> tuple[Verdict, CachedFlow]:
        """Have an event taken in, together with whatever else waits for the same flow.

        Raises NotFound, InvalidInput, and what the store raises.
        """
        prepared = self._prepare_at_once(flow_id, [letter], await self._rules())
        if prepared is None or await self._commit_prepared([prepared]):
            await self._wait_in_line(flow_id, letter)
        if isinstance(letter.answer, OrchyError):
            raise letter.answer
        assert letter.answer is not None
        assert letter.flow is not None
        return letter.answer, letter.flow

    async def _wait_in_line(self, flow_id: str, letter: Letter) -> None:
        with self._mailbox(flow_id) as mailbox:
            mailbox.letters.append(letter)
            try:
                async with mailbox.lock:
                    while letter.answer is None:
                        await self._take_letters(flow_id, mailbox)
            finally:
                if letter.answer is None and letter in mailbox.letters:
                    mailbox.letters.remove(letter)

    async def post_all(self, letters: Mapping[str, Sequence[Letter]]) -> None:
        """Have the events of many flows taken in; the letters have their answers then."""
        flow_ids = list(letters)
        rules = await self._rules()

        async def take(group: Sequence[str]) -> list[str]:
            left: list[str] = []
            prepared: list[_Prepared] = []
            for flow_id in group:
                one = self._prepare_at_once(flow_id, letters[flow_id], rules)
                if one is None:
                    left.append(flow_id)
                else:
                    prepared.append(one)
            return left + await self._commit_prepared(prepared)

        async def wait_in_line(item: tuple[str, Letter]) -> None:
            await self._wait_in_line(*item)

        groups = [flow_ids[first : first + FLOWS_AT_ONCE] for first in range(0, len(flow_ids), FLOWS_AT_ONCE)]
        long_way = [flow_id for left in await gather(take, groups, GROUPS_AT_ONCE) for flow_id in left]
        await gather(wait_in_line, [(flow_id, letter) for flow_id in long_way for letter in letters[flow_id]])

    def _prepare_at_once(self, flow_id: str, letters: Sequence[Letter], rules: Rules) -> _Prepared | None:
        """What the events of a flow come to, if that can be had without waiting; nothing has happened otherwise."""
        cached = None if flow_id in self._mailboxes else self._cache.get(flow_id)
        if cached is None or len(letters) > self._batch_size:
            return None
        graph = self._catalog.compiled(cached.flow.workflow, cached.flow.workflow_version)
        if graph is None:
            return None
        try:
            moved = Moved(graph, cached.flow, rules, SMALL_WORK_MAX)
            answers = [step_letter(moved, letter) for letter in letters]
            if moved.has_scripts or moved.meter.exhausted or not moved.changed:
                return None
            return self._prepare(moved, cached.version, cached, letters, answers)
        except Exception:  # it is met again on the long way, where it is nobody else's
            return None

    async def _commit_prepared(self, prepared: Sequence[_Prepared]) -> list[str]:
        """Commit flows together and answer their letters; the ids of those that must go the long way."""
        left: list[str] = []
        mailboxes = [self._mailboxes.setdefault(one.commit.flow_id, Mailbox()) for one in prepared]
        for one, mailbox in zip(prepared, mailboxes, strict=True):
            mailbox.users += 1
            mailbox.lock.acquire_nowait()  # nobody had it: there was no mailbox
            self._cache.drop(one.commit.flow_id)
        try:
            for one, outcome in zip(prepared, await self._try_commit_all(prepared), strict=True):
                if isinstance(outcome, VersionConflict | OutcomeUnknown):
                    left.append(one.commit.flow_id)
                    continue
                now = self._after(one, outcome) if isinstance(outcome, Committed) else None
                for letter, answer in zip(one.letters, one.answers, strict=True):
                    letter.answer, letter.flow = outcome if isinstance(outcome, StoreError) else answer, now
        finally:
            for one, mailbox in zip(prepared, mailboxes, strict=True):
                mailbox.lock.release()
                self._leave(one.commit.flow_id, mailbox)
        return left

    @contextmanager
    def _mailbox(self, flow_id: str) -> Iterator[Mailbox]:
        mailbox = self._mailboxes.setdefault(flow_id, Mailbox())
        mailbox.users += 1
        try:
            yield mailbox
        finally:
            self._leave(flow_id, mailbox)

    def _leave(self, flow_id: str, mailbox: Mailbox) -> None:
        mailbox.users -= 1
        if not mailbox.users:
            del self._mailboxes[flow_id]

    async def _take_letters(self, flow_id: str, mailbox: Mailbox) -> None:
        """Answer the letters that wait, at most a batch, with one commit."""
        letters = [mailbox.letters.popleft() for _ in range(min(len(mailbox.letters), self._batch_size))]
        try:
            await self._move_guarded(flow_id, letters)
        except OrchyError as error:
            for letter in letters:
                letter.answer = letter.answer or error
        finally:
            # Cancelled in the middle: whoever waits next begins again with them.
            mailbox.letters.extendleft(letter for letter in reversed(letters) if letter.answer is None)

    async def _move_guarded(self, flow_id: str, letters: Sequence[Letter]) -> None:
        """Move a flow; an exception that nobody foresaw is that flow's affair, and if it can be, that letter's."""
        try:
            await self._move(flow_id, letters)
        except OrchyError:
            raise
        except Exception as error:
            if len(letters) == 1:
                raise await self._failures.failed(flow_id, error) from error
            for letter in letters:
                try:
                    await self._move_guarded(flow_id, [letter])
                except OrchyError as fault:
                    letter.answer = fault

    async def _move(self, flow_id: str, letters: Sequence[Letter]) -> None:
        rules = await self._rules()
        for _ in range(TRIES_MAX):
            seen = self._cache.get(flow_id)
            cached = seen or await load_flow(self._store, self._partition_of(flow_id), flow_id)
            graph = await self._catalog.graph(cached.flow.workflow, cached.flow.workflow_version)
            moved, answers = await self._stepper.step(
                graph, cached.flow, rules, lambda moved: [step_letter(moved, letter) for letter in letters]
            )
            await self._stepper.evaluate(moved)
            if moved.changed:
                prepared = self._prepare(moved, cached.version, cached)
                self._cache.drop(flow_id)  # unless the commit is answered, nobody knows what the flow is
                try:
                    committed = await self._commit(prepared)
                except (VersionConflict, OutcomeUnknown):
                    continue
                cached = self._after(prepared, committed)
            elif seen is not None:
                # No commit will find out whether what was seen is old, and "nothing to do" may be wrong by now.
                self._cache.drop(flow_id)
                continue
            for letter, answer in zip(letters, answers, strict=True):
                letter.answer, letter.flow = answer, cached
            return
        raise StoreUnavailable(f"flow {flow_id} could not be moved: others were first, {TRIES_MAX} times")

    async def _rules(self) -> Rules:
        return Rules(self._system_actions, await self._catalog.definitions(), self._default_timeout_seconds)

    # Commits.

    def _prepare(
        self,
        moved: Moved,
        expected_version: int,
        before: CachedFlow | None = None,
        letters: Sequence[Letter] = (),
        answers: Sequence[Verdict | OrchyError] = (),
    ) -> _Prepared:
        moved.encode(self._encode_action)
        commit = build_commit(
            moved,
            partition=self._partition_of(moved.flow.id),
            expected_version=expected_version,
            retain_ms=self._retain_ms,
        )
        kept: Sequence[Taker] = ()
        if moved.flow.state is not State.PAUSED:  # by the same commit: nothing is handed out with it
            commit, kept = keep_places(self._takers, commit)
        return _Prepared(moved, commit, kept, before, letters, answers)

    async def _commit(self, prepared: _Prepared) -> Committed:
        (outcome,) = await self._commit_all([prepared])
        if isinstance(outcome, StoreError):
            raise outcome
        return outcome

    async def _try_commit_all(self, prepared: Sequence[_Prepared]) -> list[Committed | StoreError]:
        """Commit flows that have nothing to do with each other, so that no exception of one is another's."""
        try:
            return await self._commit_all(prepared)
        except Exception as error:
            note(Where.COMMIT, ", ".join(one.commit.flow_id for one in prepared), error)
            return [OutcomeUnknown(f"an error in Orchy: {error!r}")] * len(prepared)

    async def _commit_all(self, prepared: Sequence[_Prepared]) -> list[Committed | StoreError]:
        outcomes: Sequence[Committed | StoreError | None] = [None] * len(prepared)
        try:
            with shielded(any(one.takers for one in prepared)):
                outcomes = found = await self._store.commit_all([one.commit for one in prepared])
            return found
        finally:
            for one, outcome in zip(prepared, outcomes, strict=True):
                tell(one.takers, one.commit, outcome)

    def _after(self, prepared: _Prepared, committed: Committed) -> CachedFlow:
        """What a commit brings about on this node."""
        moved, commit, before = prepared.moved, prepared.commit, prepared.before
        created_ms = before.created_ms if before else committed.time_ms
        size_bytes = (before.size_bytes if before else 0) + sum(map(len, commit.fields.values()))
        ended_ms = None
        if moved.flow.state.over:
            ended_ms = before.ended_ms if before and before.ended_ms else committed.time_ms
        now = CachedFlow(moved.flow, committed.version, created_ms, ended_ms, size_bytes)
        if commit.retain_ms != 0:
            self._cache.put(now)
        if commit.retain_ms is not None:
            self._observer.flow_ended(moved.flow.state)
        names = {entry.action_name for entry in commit.enqueue if entry.worker is None}.union(committed.unparked)
        if names:
            self._wakeups.enqueued(commit.partition, sorted(names))
        if commit.set_timers:
            self._wakeups.timer_set(commit.partition, min(timer.after_ms for timer in commit.set_timers))
        return now

    async def flow(self, flow_id: str, *, seen: bool = True) -> CachedFlow:
        """A flow as this node saw it last, if it did (or `seen` is False), or as the store has it. Raises NotFound."""
        cached = self._cache.get(flow_id) if seen else None
        return cached or await load_flow(self._store, self._partition_of(flow_id), flow_id)
