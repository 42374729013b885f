"""Definitions: saves them, and compiles each version of a workflow once.

A version of a workflow never changes, so compiled ones are cached, up to a size. The number of the newest version is
read from the store each time, so that a definition saved through one node is used at once by all. Action definitions
are at most a second old.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeVar

import attrs
import msgspec
import trio

from orchy.actions.javascript.port import ScriptChecker
from orchy.engine.limits import DEFAULT_LIMITS
from orchy.engine.scripts import check_scripts
from orchy.errors import DefinitionMissing, InvalidInput, NotFound, OrchyError, Overloaded, Problem, StoreError
from orchy.flow.definition import ActionDefinition, Workflow
from orchy.flow.graph import Graph
from orchy.flow.system import SystemAction
from orchy.flow.validation.definitions import Validated, parse_action_definition, parse_workflow
from orchy.flow.validation.suggestions import Suggestions
from orchy.runtime.batcher import Batcher
from orchy.runtime.gather import gather
from orchy.store.definitions import DefinitionStore, StoredWorkflow
from orchy.store.limits import USUAL_LIMITS, DefinitionLimits

#: How many compiled versions are cached, and the total size of their sources; compiled they take some ten times that.
COMPILED_MAX = 1_000
COMPILED_BYTES_MAX = 16 * 2**20
#: Definitions up to this size are parsed in the event loop; larger ones, which may take seconds, in a thread.
INLINE_BYTES_MAX = 4 * 1024
THREAD_WAIT_SECONDS = 60.0
ACTIONS_FRESH_SECONDS = 1.0

_R = TypeVar("_R")


@attrs.frozen
class SavedWorkflow:
    """The result of a save; `created` is false if the newest version had the same content already."""

    name: str
    version: int
    created: bool
    warnings: tuple[Problem, ...]


class Catalog:
    """The definitions of one namespace, as this node sees them."""

    def __init__(
        self,
        store: DefinitionStore,
        system_actions: Mapping[str, SystemAction],
        limits: DefinitionLimits = USUAL_LIMITS,
        checker: ScriptChecker | None = None,
        remembered_names: int = DEFAULT_LIMITS.remembered_names,
    ) -> None:
        self._store = store
        self._limits = limits
        self._checker = checker
        self._remembered_names = remembered_names
        self._names: dict[str, None] = {}  # of existing workflows that this node has seen, to suggest for a typo
        self._system_actions = system_actions
        self._graphs: OrderedDict[tuple[str, int], Graph] = OrderedDict()
        self._sizes: dict[tuple[str, int], int] = {}
        self._compiled_bytes = 0
        self._actions: dict[str, ActionDefinition] = {}
        self._action_sources: dict[str, bytes] = {}
        self._actions_until = float("-inf")
        self._actions_lock = trio.Lock()
        self._thread_turn = trio.Semaphore(1)
        self._newest: Batcher[str, int | None] = Batcher(self._load_newest)

    def forget(self) -> None:
        """Drop all caches, because the store may hold other data now."""
        self._graphs.clear()
        self._sizes.clear()
        self._compiled_bytes = 0
        self._actions_until = float("-inf")

    # Workflows.

    async def save_workflow(self, source: bytes) -> SavedWorkflow:
        """Save a definition, as a new version if its content differs from the newest one's.

        The order of keys makes no difference. Raises InvalidInput with all problems, LimitReached, and Overloaded if
        its scripts can't be parsed now.
        """
        validated = await self._validate(source)
        workflow = validated.workflow
        if workflow is None:
            count = len(validated.errors)
            raise InvalidInput(
                f"the workflow definition has {count} problem{'s' if count > 1 else ''}", validated.errors
            )
        text = msgspec.json.encode(workflow.source, order="deterministic")
        version, created = await self._store.save_workflow(workflow.name, text, self._limits)
        self._remember(workflow.name)
        return SavedWorkflow(workflow.name, version, created, validated.warnings)

    async def validate_workflow(self, source: bytes) -> tuple[tuple[Problem, ...], tuple[Problem, ...]]:
        """The errors and warnings that a save would report; nothing is saved."""
        validated = await self._validate(source)
        return validated.errors, validated.warnings

    async def workflow(self, name: str, version: int | None = None) -> Workflow:
        """One version, by default the newest. Raises NotFound."""
        stored = await self._store.workflow(name, version)
        if stored is None:
            raise NotFound(_no_workflow(name, version) if version else await self._unknown(name))
        return (await self._compile(stored)).workflow

    async def workflows(self) -> list[Workflow]:
        """The newest version of each workflow, by name."""
        return [(await self._compile(stored)).workflow for stored in await self._store.workflows()]

    async def delete_workflow(self, name: str) -> None:
        """Delete a workflow: no flow can start on it any more, running ones continue. Raises NotFound."""
        if not await self._store.delete_workflow(name):
            raise NotFound(_no_workflow(name, None))
        self._names.pop(name, None)

    async def graph_to_start(self, name: str, version: int | None) -> Graph:
        """The compiled workflow that a new flow runs on. Raises NotFound, also for a version of a deleted workflow."""
        newest = await self.newest_version(name)
        return await self.graph(name, newest if version is None else version)

    async def newest_version(self, name: str) -> int:
        """The number of a workflow's newest version. Raises NotFound."""
        newest = await self._newest.do(name)
        if newest is None:
            raise NotFound(await self._unknown(name))
        return newest

    def _remember(self, name: str) -> None:
        self._names[name] = None
        if len(self._names) > self._remembered_names:
            del self._names[next(iter(self._names))]

    async def _unknown(self, name: str) -> str:
        """The error for an unknown workflow, with a suggestion from the names that this node has seen lately."""
        self._names.pop(name, None)
        closest = Suggestions(self._names).closest(name)
        try:
            exists = closest is not None and await self._store.latest_version(closest) is not None
        except StoreError:  # a hint is not worth another error
            exists = False
        return _no_workflow(name, None) + (f"; did you mean {closest!r}?" if exists else "")

    async def _load_newest(self, names: Sequence[str]) -> list[int | OrchyError | None]:
        """The newest versions; the reads begin after all callers of the batch have asked."""

        async def load(name: str) -> int | OrchyError | None:
            try:
                return await self._store.latest_version(name)
            except OrchyError as error:
                return error

        distinct = list(dict.fromkeys(names))
        answers = dict(zip(distinct, await gather(load, distinct), strict=True))
        return [answers[name] for name in names]

    async def graph(self, name: str, version: int) -> Graph:
        """The compiled workflow in a version, also of a deleted workflow. Raises NotFound."""
        key = (name, version)
        graph = self._graphs.get(key)
        if graph is None:
            stored = await self._store.workflow(name, version)
            if stored is None:
                raise NotFound(_no_workflow(name, version))
            return await self._compile(stored)
        self._graphs.move_to_end(key)
        return graph

    async def graph_of_flow(self, name: str, version: int) -> Graph:
        """The compiled workflow that a flow runs on. Raises DefinitionMissing."""
        try:
            return await self.graph(name, version)
        except NotFound as missing:
            raise DefinitionMissing(
                f"{missing}, and flows run on it: the store has lost it, or was restored without it; put it back into"
                " the store, and they go on"
            ) from None

    def compiled(self, name: str, version: int) -> Graph | None:
        """The same as `graph`, but only if it is cached."""
        return self._graphs.get((name, version))

    async def _validate(self, source: bytes) -> Validated:
        validated = await self._read(source, await self.definitions())
        if validated.workflow is None or self._checker is None:
            return validated
        errors, warnings = await check_scripts(
            validated.workflow.source, source.decode(), self._system_actions, self._checker
        )
        workflow = None if errors else validated.workflow
        return Validated(workflow, tuple(errors), (*validated.warnings, *warnings))

    async def _read(self, source: bytes, known_actions: Collection[str] | None) -> Validated:
        return await self._run(len(source), lambda: parse_workflow(source, self._system_actions, known_actions))

    async def _run(self, size_bytes: int, parse: Callable[[], _R]) -> _R:
        """Parse a definition: large ones in a thread, one at a time, so that they don't block the event loop."""
        if size_bytes <= INLINE_BYTES_MAX:
            return parse()
        with trio.move_on_after(THREAD_WAIT_SECONDS):
            async with self._thread_turn:
                return await trio.to_thread.run_sync(parse)
        raise Overloaded(f"large definitions wait to be read for more than {THREAD_WAIT_SECONDS:g} s")

    async def _compile(self, stored: StoredWorkflow) -> Graph:
        key = (stored.name, stored.version)
        graph = self._graphs.get(key)
        if graph is None:
            graph = await self._run(len(stored.source), lambda: self._compiled_from(stored))
            if key not in self._graphs:  # another task may have compiled it meanwhile
                self._graphs[key] = graph
                self._sizes[key] = len(stored.source)
                self._compiled_bytes += len(stored.source)
            while len(self._graphs) > 1 and (
                len(self._graphs) > COMPILED_MAX or self._compiled_bytes > COMPILED_BYTES_MAX
            ):
                oldest, _ = self._graphs.popitem(last=False)
                self._compiled_bytes -= self._sizes.pop(oldest)
        return graph

    def _compiled_from(self, stored: StoredWorkflow) -> Graph:
        workflow = parse_workflow(stored.source, self._system_actions, None).workflow
        assert workflow is not None, f"a stored definition is not sound: {stored.name}, version {stored.version}"
        self._remember(stored.name)
        return Graph.of(attrs.evolve(workflow, version=stored.version))

    # User actions.

    async def definitions(self) -> Mapping[str, ActionDefinition]:
        """The user actions that workers registered, by name; at most ACTIONS_FRESH_SECONDS old."""
        if trio.current_time() >= self._actions_until:
            async with self._actions_lock:
                if trio.current_time() >= self._actions_until:
                    loaded_at = trio.current_time()
                    stored = await self._store.actions()
                    known, parsed = self._action_sources, self._actions
                    self._actions = {
                        name: parsed[name] if known.get(name) == source else parse_action_definition(source)
                        for name, source in stored.items()
                    }
                    self._action_sources = stored
                    self._actions_until = loaded_at + ACTIONS_FRESH_SECONDS
        return self._actions

    async def save_action(self, definition: ActionDefinition) -> bool:
        """Save the definition of a user action, or replace it; True if it is new. Raises LimitReached."""
        created = await self._store.save_action(definition.name, msgspec.json.encode(definition), self._limits)
        self._actions_until = float("-inf")
        return created

    async def actions(self) -> list[ActionDefinition]:
        """All action definitions, by name."""
        definitions = await self.definitions()
        return [definitions[name] for name in sorted(definitions)]

    async def action(self, name: str) -> ActionDefinition:
        """One action definition. Raises NotFound."""
        definition = (await self.definitions()).get(name)
        if definition is None:
            raise NotFound(f"no action is named {name!r}")
        return definition

    async def delete_action(self, name: str) -> None:
        """Delete an action definition; flows that use it continue with the defaults. Raises NotFound."""
        if not await self._store.delete_action(name):
            raise NotFound(f"no action is named {name!r}")
        self._actions_until = float("-inf")


def _no_workflow(name: str, version: int | None) -> str:
    if version is None:
        return f"no workflow is named {name!r}"
    return f"workflow {name!r} has no version {version}"
