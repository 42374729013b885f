"""The first commits of flows, and whether an existing flow is the one that a start requests."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from orchy.engine.commits import Commits, Prepared
from orchy.engine.limits import TRIES_MAX
from orchy.engine.loading import load_flow
from orchy.engine.ports import Observer
from orchy.engine.rule_book import RuleBook
from orchy.engine.stepping import Stepper
from orchy.errors import (
    FlowFault,
    NotFound,
    OrchyError,
    OutcomeUnknown,
    Problem,
    StoreError,
    StoreUnavailable,
    VersionConflict,
    WrongState,
)
from orchy.flow.draft import Rules
from orchy.flow.events import Started
from orchy.flow.execution import Flow
from orchy.flow.graph import Graph
from orchy.store.flows import Committed, FlowStore
from orchy.telemetry.unexpected import Where, note

_encode = msgspec.json.Encoder(order="deterministic").encode


class NewFlow(Struct, frozen=True):
    """A flow to be created. `first_try` is the error of an earlier try that did not decide the outcome."""

    graph: Graph
    flow: Flow
    version_given: bool = False
    first_try: StoreError | None = None


class StartOutcome(Struct, frozen=True):
    """A durable flow. `created` is false if it existed before; `version` is the one that it runs on."""

    flow_id: str
    created: bool
    version: int


def same_start(existing: Flow, wanted: Flow, *, version_given: bool, created: bool = False) -> StartOutcome:
    """The answer to a start whose flow exists already. Raises WrongState if that is a different flow.

    It is the same if workflow and input are the same, and it runs on the version that the caller gave, if any. The
    order of keys in objects makes no difference.
    """
    differences: list[Problem] = []
    if existing.workflow != wanted.workflow:
        differences.append(Problem(f"it is of the workflow {existing.workflow!r}, not {wanted.workflow!r}", "/name"))
    elif version_given and existing.workflow_version != wanted.workflow_version:
        message = f"it runs on version {existing.workflow_version}, not {wanted.workflow_version}"
        differences.append(Problem(message, "/version"))
    if _encode(existing.input) != _encode(wanted.input):
        differences.append(Problem("its input is another one", "/input"))
    if differences:
        what = f"workflow {existing.workflow!r} in version {existing.workflow_version}"
        raise WrongState(
            f"flow {existing.id} is there already and is another one, of {what}; take another flowId",
            [Problem(f"flow {existing.id} is of {what}", "/flowId"), *differences],
        )
    return StartOutcome(existing.id, created, existing.workflow_version)


class StartCommits:
    """Creates flows. Safe to use from many tasks."""

    def __init__(
        self,
        *,
        store: FlowStore,
        rules: RuleBook,
        stepper: Stepper,
        commits: Commits,
        partition_of: Callable[[str], int],
        observer: Observer,
    ) -> None:
        self._store = store
        self._rules = rules
        self._stepper = stepper
        self._commits = commits
        self._partition_of = partition_of
        self._observer = observer

    async def make(self, new: NewFlow) -> StartOutcome:
        """Create a flow durably, unless its id exists already.

        Raises WrongState if the existing flow is a different one (see `same_start`), and what the store raises. After a
        try whose answer was lost, a flow that is found counts as created by it.
        """
        try:
            return await self._make(new)
        except OrchyError:
            raise
        except Exception as error:
            note(Where.START, f"flow {new.flow.id} of {new.flow.workflow}", error)
            raise FlowFault(f"an error in Orchy ({error!r}); the server's log has more") from error

    async def _make(self, new: NewFlow) -> StartOutcome:
        flow, unsure = new.flow, isinstance(new.first_try, OutcomeUnknown)
        if isinstance(new.first_try, VersionConflict):
            return await self._already_started(new, unsure)
        rules = await self._rules.current()
        for _ in range(TRIES_MAX):
            transition, _ = await self._stepper.step(new.graph, flow, rules, lambda first: first.take(Started()))
            await self._stepper.run_deferred(transition)
            prepared = self._commits.prepare(transition, expected_version=0)
            assert prepared is not None
            try:
                committed = await self._commits.make(prepared)
            except VersionConflict:
                return await self._already_started(new, unsure)
            except OutcomeUnknown as unknown:
                unsure = True
                try:
                    existing = await self._find_existing(new, unsure)
                except StoreError:
                    raise OutcomeUnknown(f"flow {flow.id} may have been started: {unknown}") from None
                if existing is not None:
                    return existing
                continue
            return self._started(prepared, committed)
        raise StoreUnavailable(f"flow {flow.id} could not be started: the store lost its answer {TRIES_MAX} times")

    async def _already_started(self, new: NewFlow, created: bool) -> StartOutcome:
        # If the flow was removed a moment ago, there is nothing left to compare with: take it for the same.
        return await self._find_existing(new, created) or StartOutcome(new.flow.id, created, new.flow.workflow_version)

    async def _find_existing(self, new: NewFlow, created: bool) -> StartOutcome | None:
        try:
            existing = await load_flow(self._store, self._partition_of(new.flow.id), new.flow.id)
        except NotFound:
            return None
        return same_start(existing.flow, new.flow, version_given=new.version_given, created=created)

    def _started(self, prepared: Prepared, committed: Committed) -> StartOutcome:
        self._observer.flow_started()
        self._commits.apply(prepared, committed)
        flow = prepared.transition.flow
        return StartOutcome(flow.id, True, flow.workflow_version)

    async def make_all(self, flows: Sequence[NewFlow]) -> list[StartOutcome | OrchyError | NewFlow]:
        """Create flows whose commits leave together (callers keep to FLOWS_AT_ONCE).

        For each, what `make` would return or raise, or a NewFlow if more than one commit is needed: pass it to `make`.
        """
        rules = await self._rules.current()
        outcomes: list[StartOutcome | OrchyError | NewFlow] = list(flows)
        prepared: dict[int, Prepared] = {}
        for index, new in enumerate(flows):
            one = self._prepare(new, rules)
            if one is not None:
                prepared[index] = one
        for index, outcome in zip(prepared, await self._commits.make_all(list(prepared.values())), strict=True):
            if isinstance(outcome, Committed):
                outcomes[index] = self._started(prepared[index], outcome)
            elif isinstance(outcome, VersionConflict | OutcomeUnknown):
                outcomes[index] = replace(flows[index], first_try=outcome)
            else:
                outcomes[index] = outcome
        return outcomes

    def _prepare(self, new: NewFlow, rules: Rules) -> Prepared | None:
        """The first commit of a flow; None if it needs the slow path, which is `make`."""
        try:
            transition = self._stepper.small_transition(new.graph, new.flow, rules)
            transition.take(Started())
            if transition.has_deferred or transition.meter.exhausted:
                return None
            return self._commits.prepare(transition, expected_version=0)
        except Exception:  # the slow path meets it again, and handles it for this flow alone
            return None
