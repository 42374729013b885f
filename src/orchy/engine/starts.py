"""Starts of flows, one or many: a single path from requests to durable flows.

A request names a workflow, whose newest version is looked up at each start, once for all requests that come together.
The first commits of flows leave together, too (see `start_commits`). A batch is not a transaction: some flows may be
started and others not. When the store becomes unreachable, starts that have not begun are refused at once, so that a
batch does not wait for one timeout after the other.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from typing import Any, TypeVar
from uuid import UUID, uuid4

from msgspec import Struct
from msgspec.structs import replace

from orchy.engine.catalog import Catalog
from orchy.engine.limits import FLOWS_AT_ONCE, GROUPS_AT_ONCE
from orchy.engine.start_commits import NewFlow, StartCommits, StartOutcome, same_start
from orchy.errors import InvalidInput, OrchyError, OutcomeUnknown, StoreUnavailable, WrongState
from orchy.flow.definition import JSON
from orchy.flow.execution import Flow
from orchy.flow.graph import Graph
from orchy.runtime.batcher import Batcher
from orchy.runtime.gather import gather, gather_groups

#: The most flows that one batch starts.
STARTS_MAX = 1_000
#: How many definitions are looked up concurrently.
LOOKUPS_AT_ONCE = 32

_FLOW_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_FLOW_ID_RULE = "a flowId is 1 to 128 of the characters A-Z a-z 0-9 . _ - and begins with a letter or a digit"

_K = TypeVar("_K", bound=Hashable)
_R = TypeVar("_R")


class StartRequest(Struct, frozen=True):
    """A flow to be started. `version` None: the newest one; `flow_id` None: a new id."""

    name: str
    input: JSON
    version: int | None = None
    flow_id: str | None = None


_Made = StartOutcome | OrchyError | NewFlow


class Starts:
    """Starts the flows of one node. Safe to use from many tasks."""

    def __init__(self, catalog: Catalog, commits: StartCommits, new_uuid: Callable[[], UUID] = uuid4) -> None:
        self._catalog = catalog
        self._commits = commits
        self._new_uuid = new_uuid
        self._batcher: Batcher[tuple[StartRequest, Graph], StartOutcome | NewFlow] = Batcher(self._make)

    async def start(self, request: StartRequest) -> StartOutcome:
        """Start a flow durably. If the `flow_id` exists, nothing is started and the outcome says not created.

        Raises NotFound (workflow or version), InvalidInput (`flow_id`), WrongState (the flow with this `flow_id` has
        another workflow, input, or version than the one given here), and what the store raises.
        """
        graph = await self._catalog.graph_to_start(request.name, request.version)
        outcome = await self._batcher.do((request, graph))
        # Deferred work and further tries are left to this caller, so that they don't hold up the rest of the batch.
        return await self._commits.make(outcome) if isinstance(outcome, NewFlow) else outcome

    async def start_many(self, requests: Sequence[StartRequest]) -> list[StartOutcome | OrchyError]:
        """Start at most STARTS_MAX flows: for each, in order, what `start` would return or raise.

        Requests with the same `flow_id` are handled in order: the first that succeeds counts, and the others are
        answered as repetitions of it, or refused if they request a different flow.
        """
        assert len(requests) <= STARTS_MAX, "the caller checks the limit"
        lookups = _Lookups()
        newest = await lookups.each(self._catalog.newest_version, (request.name for request in requests))
        wanted = [(request.name, _version(request, newest[request.name])) for request in requests]
        graphs = await lookups.each(
            lambda one: self._catalog.graph(*one),
            ((name, version) for name, version in wanted if isinstance(version, int)),
        )
        outcomes: dict[int, StartOutcome | OrchyError] = {}
        ready: dict[int, tuple[StartRequest, Graph]] = {}
        for index, (request, (name, version)) in enumerate(zip(requests, wanted, strict=True)):
            graph = graphs[name, version] if isinstance(version, int) else version
            if isinstance(graph, OrchyError):
                outcomes[index] = graph
            else:
                ready[index] = (request, graph)
        outcomes.update(zip(ready, await self._finish(await self._make(list(ready.values()))), strict=True))
        return [outcomes[index] for index in range(len(requests))]

    async def _finish(self, made: Sequence[_Made]) -> list[StartOutcome | OrchyError]:
        """Finish the starts that need more than one commit."""
        outcomes = list(made)
        left: dict[str, list[int]] = {}
        for index, outcome in enumerate(outcomes):
            if isinstance(outcome, NewFlow):
                left.setdefault(outcome.flow.id, []).append(index)

        async def finish(indexes: Sequence[int]) -> None:  # those of one id, in order
            for index in indexes:
                outcome = outcomes[index]
                assert isinstance(outcome, NewFlow)
                try:
                    outcomes[index] = await self._commits.make(outcome)
                except OrchyError as error:
                    outcomes[index] = error

        await gather(finish, left.values())
        return [outcome for outcome in outcomes if not isinstance(outcome, NewFlow)]

    async def _make(self, wanted: Sequence[tuple[StartRequest, Graph]]) -> Sequence[_Made]:
        """Start flows with one commit each; a NewFlow in the result needs more (see `StartCommits.make`)."""
        outcomes: dict[int, _Made] = {}
        firsts: dict[str, NewFlow] = {}  # of several with one id, the first
        repeated: list[tuple[int, NewFlow]] = []
        places: dict[str, int] = {}
        for index, (request, graph) in enumerate(wanted):
            new = self._new_flow(request, graph)
            if isinstance(new, InvalidInput):
                outcomes[index] = new
            elif new.flow.id in firsts:
                repeated.append((index, new))
            else:
                firsts[new.flow.id] = new
                places[new.flow.id] = index
        made = await self._make_in_groups(list(firsts.values()))
        if len(made) == len(wanted):  # nearly always
            return made
        outcomes.update(zip(places.values(), made, strict=True))
        for index, new in repeated:
            outcomes[index] = _repeat(new, firsts[new.flow.id], outcomes[places[new.flow.id]])
        return [outcomes[index] for index in range(len(wanted))]

    def _new_flow(self, request: StartRequest, graph: Graph) -> NewFlow | InvalidInput:
        flow_id, workflow = request.flow_id, graph.workflow
        if flow_id is None:
            flow_id = str(self._new_uuid())
        elif not _FLOW_ID.fullmatch(flow_id):
            return InvalidInput(_FLOW_ID_RULE)
        flow = Flow(flow_id, workflow.name, workflow.version, request.input)
        return NewFlow(graph, flow, request.version is not None)

    async def _make_in_groups(self, flows: Sequence[NewFlow]) -> Sequence[_Made]:
        unreached = False

        async def make(group: Sequence[NewFlow]) -> Sequence[_Made]:
            nonlocal unreached
            if unreached:
                return [StoreUnavailable(_NOT_BEGUN)] * len(group)
            outcomes = await self._commits.make_all(group)
            unreached = any(
                isinstance(one.first_try if isinstance(one, NewFlow) else one, StoreUnavailable | OutcomeUnknown)
                for one in outcomes
            )
            return outcomes

        return await gather_groups(make, flows, FLOWS_AT_ONCE, GROUPS_AT_ONCE)


_NOT_BEGUN = "not begun, as the store was not reached for another start of the batch"


def _version(request: StartRequest, newest: int | OrchyError) -> int | OrchyError:
    """The version to start. A workflow without a newest version, as it was deleted, has none that can be started."""
    return newest if isinstance(newest, OrchyError) or request.version is None else request.version


def _repeat(new: NewFlow, first: NewFlow, outcome: _Made) -> _Made:
    """The outcome of a start that has the same id as `first` in the same batch, whose outcome is `outcome`."""
    if isinstance(outcome, StartOutcome):
        existing = replace(first.flow, workflow_version=outcome.version)
        try:
            return same_start(existing, new.flow, version_given=new.version_given)
        except WrongState as different:
            return different
    # If the first differs from the existing flow, this one may still be the same; otherwise they fail together.
    return new if isinstance(outcome, NewFlow | WrongState) else outcome


class _Lookups:
    """Calls that fail individually, until the store turns out to be unreachable."""

    def __init__(self) -> None:
        self._unreachable = False

    async def _outcome(self, call: Callable[..., Awaitable[_R]], *args: Any) -> _R | OrchyError:
        """The outcome of a call, which is not made any more once the store is unreachable."""
        if self._unreachable:
            return StoreUnavailable(_NOT_BEGUN)
        try:
            return await call(*args)
        except (StoreUnavailable, OutcomeUnknown) as error:
            self._unreachable = True
            return error
        except OrchyError as error:
            return error

    async def each(self, call: Callable[[_K], Awaitable[_R]], keys: Iterable[_K]) -> dict[_K, _R | OrchyError]:
        """The outcome of the call for each distinct key."""
        keys = list(dict.fromkeys(keys))
        outcomes = await gather(lambda key: self._outcome(call, key), keys, LOOKUPS_AT_ONCE)
        return dict(zip(keys, outcomes, strict=True))
