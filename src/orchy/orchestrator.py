"""The use cases, and the only place where a flow is loaded, stepped and committed.

What happens to one flow on this node happens one after the other: events that arrive together are stepped
together and leave in one commit (`_Mailbox`). Between nodes the store decides who was first; the one who was
not loads the flow again and steps again. So does one whose commit got no answer: the machine knows what has
counted already.

A script is evaluated between two steps and before the commit, so that a chain of quick system actions costs
one commit; after EVALUATIONS_PER_COMMIT of them the flow is committed and goes on by a timer.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol
from uuid import UUID, uuid4

import attrs
import trio

from orchy.actions.javascript.port import Evaluation, JavaScriptEngine
from orchy.catalog import Catalog
from orchy.errors import (
    InvalidInput,
    NotFound,
    OrchyError,
    OutcomeUnknown,
    StoreError,
    StoreUnavailable,
    VersionConflict,
    WrongState,
)
from orchy.flow.definition import DEFAULT_TIMEOUT_SECONDS, JSON
from orchy.flow.draft import Rules
from orchy.flow.events import (
    Cancel,
    Completed,
    Evaluated,
    EvaluationFailed,
    Event,
    EventReceived,
    Failed,
    Pause,
    Resume,
    Started,
    TimerFired,
)
from orchy.flow.execution import Flow
from orchy.flow.expressions import FlowContext
from orchy.flow.graph import Graph
from orchy.flow.machine import Verdict
from orchy.flow.system import SystemAction
from orchy.flowcache import CachedFlow, FlowCache
from orchy.queries import FlowView, load_flow, view_of
from orchy.store.base import BATCH_MAX, Commit, Committed, DueTimer, FlowStore
from orchy.transition import EncodeAction, Moved, build_commit

#: How often a commit is tried again after somebody else was first, or after its answer was lost.
TRIES_MAX = 10
#: The most scripts that run before one commit.
EVALUATIONS_PER_COMMIT = 20

_FLOW_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class Wakeups(Protocol):
    """Whoever is to know at once what a commit put into a partition."""

    def enqueued(self, partition: int, action_names: Sequence[str]) -> None:
        """There is work for these actions."""
        ...

    def timer_set(self, partition: int, after_ms: int) -> None:
        """A timer is due so long from now."""
        ...


class Observer(Protocol):
    """Whoever counts what happens."""

    def flow_started(self) -> None:
        """A flow was accepted."""
        ...

    def flow_ended(self, state: str) -> None:
        """A flow is over."""
        ...

    def result_taken(self, verdict: str) -> None:
        """A worker's result was answered."""
        ...


@attrs.frozen
class Result:
    """What a worker says of one attempt: its output, or (`error` given) its failure."""

    flow_id: str
    action_id: int
    attempt: int
    output: JSON = None
    error: str | None = None
    worker: str = ""


@attrs.define(eq=False)
class _Letter:
    """One event for one flow, and in the end its answer."""

    event: Event
    workflow: str | None = None  # the name that the caller gave, to be checked
    answer: Verdict | OrchyError | None = None
    flow: CachedFlow | None = None


@attrs.define(eq=False)
class _Mailbox:
    """The events of one flow that wait, and the lock whose holder takes them in."""

    letters: deque[_Letter] = attrs.field(factory=deque)
    lock: trio.Lock = attrs.field(factory=trio.Lock)
    users: int = 0


class Orchestrator:
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
        observer: Observer,
        retention_seconds: float,
        default_timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
        batch_size: int = BATCH_MAX,
        new_uuid: Callable[[], UUID] = uuid4,
    ) -> None:
        self._store = store
        self._catalog = catalog
        self._system_actions = system_actions
        self._engine = engine
        self._encode_action = encode_action
        self._partition_of = partition_of
        self._wakeups = wakeups
        self._observer = observer
        self._retain_ms = round(retention_seconds * 1000)
        self._default_timeout_seconds = default_timeout_seconds
        self._batch_size = batch_size
        self._new_uuid = new_uuid
        self._cache = FlowCache()
        self._mailboxes: dict[str, _Mailbox] = {}

    # What users ask for.

    async def execute(self, name: str, input: JSON, version: int | None = None, flow_id: str | None = None) -> str:
        """Start a flow and answer its id; it is durable then. A `flow_id` that exists starts nothing.

        Raises NotFound (workflow or version), InvalidInput (`flow_id`), and what the store raises.
        """
        return await self.start(await self._catalog.graph_to_start(name, version), input, flow_id)

    async def start(self, graph: Graph, input: JSON, flow_id: str | None = None) -> str:
        """The same on a workflow that the caller has looked up."""
        if flow_id is not None:
            check_flow_id(flow_id)
        flow = Flow(flow_id or str(self._new_uuid()), graph.workflow.name, graph.workflow.version, input)
        rules = await self._rules()
        partition = self._partition_of(flow.id)
        for _ in range(TRIES_MAX):
            moved = Moved(graph, flow, rules)
            moved.take(Started())
            await self._evaluate(moved)
            moved.encode(self._encode_action)
            commit = self._commit_of(moved, expected_version=0)
            try:
                committed = await self._store.commit(commit)
            except VersionConflict:
                return flow.id  # it was started before
            except OutcomeUnknown as unknown:
                try:
                    stored = await self._store.load(partition, flow.id)
                except StoreError:
                    raise OutcomeUnknown(f"flow {flow.id} may have been started: {unknown}") from None
                if stored is not None:
                    return flow.id
                continue
            self._observer.flow_started()
            self._after(commit, committed, moved)
            return flow.id
        raise StoreUnavailable(f"flow {flow.id} could not be started: the store lost its answer {TRIES_MAX} times")

    async def push(self, result: Result) -> Verdict | None:
        """Take a worker's result in. None: there is no such flow (it may have been removed after its end).

        Raises InvalidInput for an action that the flow does not have, and what the store raises; then the
        result may be pushed again.
        """
        event: Completed | Failed
        if result.error is None:
            event = Completed(result.action_id, result.attempt, result.output, result.worker)
        else:
            event = Failed(result.action_id, result.attempt, result.error, result.worker)
        try:
            verdict = (await self._post(result.flow_id, _Letter(event)))[0]
        except NotFound:
            self._observer.result_taken("unknown")
            return None
        self._observer.result_taken(verdict)
        return verdict

    async def deliver(self, name: str, flow_id: str, event: str, data: JSON) -> bool:
        """Give a flow an event: True if a wait took it, False if it is kept for one to come.

        Raises NotFound, WrongState (the flow is over), InvalidInput (too many are kept).
        """
        letter = _Letter(EventReceived(event, data, self._new_uuid().hex[:16]), name)
        verdict, cached = await self._post(flow_id, letter)
        if verdict is Verdict.REFUSED:
            raise WrongState(f"flow {flow_id} is {cached.flow.state} and takes no events")
        return verdict is not Verdict.KEPT

    async def pause(self, name: str, flow_id: str) -> FlowView:
        """Start nothing new. Pausing twice is as good as once. Raises NotFound, WrongState (it is over)."""
        return await self._command(name, flow_id, Pause(), "paused")

    async def resume(self, name: str, flow_id: str) -> FlowView:
        """Go on after a pause; without one nothing changes. Raises NotFound, WrongState (it is over)."""
        return await self._command(name, flow_id, Resume(), "resumed")

    async def cancel(self, name: str, flow_id: str) -> FlowView:
        """End a flow now. Cancelling twice is as good as once. Raises NotFound, WrongState (it ended otherwise)."""
        return await self._command(name, flow_id, Cancel(), "cancelled")

    async def fire(self, due: DueTimer) -> None:
        """Handle a timer that is due. If it can't be (an error is raised), the store brings it back."""
        key = due.key
        try:
            verdict, _ = await self._post(key.flow_id, _Letter(TimerFired(key.kind, key.action_id, key.attempt)))
        except NotFound:
            verdict = Verdict.STALE
        if verdict is Verdict.STALE:
            await self._store.cancel_timers(due.partition, [key])

    # One flow at a time.

    async def _command(self, name: str, flow_id: str, command: Pause | Resume | Cancel, done: str) -> FlowView:
        verdict, cached = await self._post(flow_id, _Letter(command, name))
        if verdict is Verdict.REFUSED:
            raise WrongState(f"flow {flow_id} is {cached.flow.state} and can't be {done}")
        return view_of(cached)

    async def _post(self, flow_id: str, letter: _Letter) -> tuple[Verdict, CachedFlow]:
        """Have an event taken in, together with whatever else waits for the same flow."""
        with self._mailbox(flow_id) as mailbox:
            mailbox.letters.append(letter)
            try:
                async with mailbox.lock:
                    while letter.answer is None:
                        await self._take_letters(flow_id, mailbox)
            finally:
                if letter.answer is None and letter in mailbox.letters:
                    mailbox.letters.remove(letter)
        if isinstance(letter.answer, OrchyError):
            raise letter.answer
        assert letter.flow is not None
        return letter.answer, letter.flow

    @contextmanager
    def _mailbox(self, flow_id: str) -> Iterator[_Mailbox]:
        mailbox = self._mailboxes.setdefault(flow_id, _Mailbox())
        mailbox.users += 1
        try:
            yield mailbox
        finally:
            mailbox.users -= 1
            if not mailbox.users:
                del self._mailboxes[flow_id]

    async def _take_letters(self, flow_id: str, mailbox: _Mailbox) -> None:
        """Answer the letters that wait, at most a batch, with one commit."""
        letters = [mailbox.letters.popleft() for _ in range(min(len(mailbox.letters), self._batch_size))]
        try:
            await self._move(flow_id, letters)
        except OrchyError as error:
            for letter in letters:
                letter.answer = letter.answer or error
        finally:
            # Cancelled in the middle: whoever waits next begins again with them.
            mailbox.letters.extendleft(letter for letter in reversed(letters) if letter.answer is None)

    async def _move(self, flow_id: str, letters: Sequence[_Letter]) -> None:
        rules = await self._rules()
        for _ in range(TRIES_MAX):
            seen = self._cache.get(flow_id)
            cached = seen or await load_flow(self._store, self._partition_of(flow_id), flow_id)
            graph = await self._catalog.graph(cached.flow.workflow, cached.flow.workflow_version)
            moved = Moved(graph, cached.flow, rules)
            answers = [self._step_letter(moved, letter) for letter in letters]
            await self._evaluate(moved)
            moved.encode(self._encode_action)
            if moved.changed:
                commit = self._commit_of(moved, cached.version)
                self._cache.drop(flow_id)  # unless the commit is answered, nobody knows what the flow is
                try:
                    committed = await self._store.commit(commit)
                except (VersionConflict, OutcomeUnknown):
                    continue
                cached = self._after(commit, committed, moved, cached)
            elif seen is not None:
                # No commit will find out whether what was seen is old, and "nothing to do" may be wrong by now.
                self._cache.drop(flow_id)
                continue
            for letter, answer in zip(letters, answers, strict=True):
                letter.answer, letter.flow = answer, cached
            return
        raise StoreUnavailable(f"flow {flow_id} could not be moved: others were first, {TRIES_MAX} times")

    def _step_letter(self, moved: Moved, letter: _Letter) -> Verdict | OrchyError:
        if letter.workflow is not None and letter.workflow != moved.flow.workflow:
            return NotFound(f"workflow {letter.workflow!r} has no flow {moved.flow.id}")
        try:
            return moved.take(letter.event)
        except InvalidInput as error:
            return error

    async def _evaluate(self, moved: Moved) -> None:
        """Run the scripts that the flow has come to, and those that they lead to, up to a limit."""
        for _ in range(EVALUATIONS_PER_COMMIT):
            script = moved.next_script()
            if script is None:
                return
            context = FlowContext(moved.flow.input, moved.flow.finished).as_json()
            answer = await self._engine.evaluate(script.expression, context)
            if isinstance(answer, Evaluation):
                moved.take(Evaluated(script.action_id, script.attempt, answer.output))
            else:
                moved.take(EvaluationFailed(script.action_id, script.attempt, answer.message))

    def _commit_of(self, moved: Moved, expected_version: int) -> Commit:
        return build_commit(
            moved,
            partition=self._partition_of(moved.flow.id),
            expected_version=expected_version,
            retain_ms=self._retain_ms,
        )

    def _after(
        self, commit: Commit, committed: Committed, moved: Moved, cached: CachedFlow | None = None
    ) -> CachedFlow:
        """What a commit brings about on this node."""
        created_ms = cached.created_ms if cached else committed.time_ms
        size_bytes = (cached.size_bytes if cached else 0) + sum(map(len, commit.fields.values()))
        ended_ms = None
        if moved.flow.state.over:
            ended_ms = cached.ended_ms if cached and cached.ended_ms else committed.time_ms
        now = CachedFlow(moved.flow, committed.version, created_ms, ended_ms, size_bytes)
        if commit.retain_ms != 0:
            self._cache.put(now)
        if commit.retain_ms is not None:
            self._observer.flow_ended(moved.flow.state)
        names = {entry.action_name for entry in commit.enqueue}.union(committed.unparked)
        if names:
            self._wakeups.enqueued(commit.partition, sorted(names))
        if commit.set_timers:
            self._wakeups.timer_set(commit.partition, min(timer.after_ms for timer in commit.set_timers))
        return now

    async def _rules(self) -> Rules:
        return Rules(self._system_actions, await self._catalog.definitions(), self._default_timeout_seconds)


def check_flow_id(flow_id: str) -> None:
    """Raises InvalidInput unless it is 1-128 of A-Z a-z 0-9 . _ - and begins with a letter or digit."""
    if not _FLOW_ID.fullmatch(flow_id):
        raise InvalidInput(
            "a flowId is 1 to 128 of the characters A-Z a-z 0-9 . _ - and begins with a letter or a digit"
        )
