"""The part of the reference store without partitions: nodes, settings, workflows and actions."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import trio

from orchy.store.definitions import NamespaceSettings, StoredWorkflow
from orchy.store.limits import USUAL_LIMITS, DefinitionLimits
from orchy.store.nodes import RegisteredNode


@attrs.define(eq=False)
class _Workflow:
    """All versions ever saved; `latest` is None after a delete."""

    versions: list[bytes] = attrs.field(factory=list)
    latest: int | None = None


class MemoryDefinitions:
    """`NodeStore` and `DefinitionStore`. `clock` returns seconds, and never goes back."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._workflows: dict[str, _Workflow] = {}
        self._actions: dict[str, bytes] = {}
        self._settings: NamespaceSettings | None = None
        self._place = ""
        self._nodes: dict[str, tuple[str, str, int]] = {}

    def _now_ms(self) -> int:
        return round(self._clock() * 1_000_000) // 1000

    # Nodes.

    async def register(self, node: str, instance: str, address: str, lease_ms: int) -> list[RegisteredNode]:
        await trio.lowlevel.checkpoint()
        now = self._now_ms()
        self._nodes = {name: held for name, held in self._nodes.items() if held[2] > now}
        held = self._nodes.get(node)
        if held is None or instance == held[0] or address == held[1]:
            self._nodes[node] = (instance, address, now + lease_ms)
        return [RegisteredNode(name, *held[:2], held[2] - now) for name, held in sorted(self._nodes.items())]

    async def unregister(self, node: str, instance: str) -> None:
        await trio.lowlevel.checkpoint()
        if node in self._nodes and self._nodes[node][0] == instance:
            del self._nodes[node]

    # Definitions.

    async def settings(self, wanted: NamespaceSettings, place: str = "") -> NamespaceSettings:
        await trio.lowlevel.checkpoint()
        known = self._settings or wanted
        renewed = bool(place and self._place and place != self._place)
        self._place = place or self._place
        identity = wanted.identity if renewed or not known.identity else known.identity
        self._settings = NamespaceSettings(known.partitions, known.format_version, identity)
        return NamespaceSettings(known.partitions, known.format_version, identity, renewed)

    async def save_workflow(
        self, name: str, source: bytes, limits: DefinitionLimits = USUAL_LIMITS
    ) -> tuple[int, bool]:
        await trio.lowlevel.checkpoint()
        workflow = self._workflows.get(name)
        if workflow is None:
            if len(self._workflows) >= limits.workflows_max:
                raise limits.too_many_workflows(name)
            workflow = _Workflow()
        if workflow.latest is not None and workflow.versions[workflow.latest - 1] == source:
            return workflow.latest, False
        if len(workflow.versions) >= limits.versions_max:
            raise limits.too_many_versions(name)
        if sum(map(len, workflow.versions)) + len(source) > limits.versions_bytes_max:
            raise limits.too_many_bytes(name)
        self._workflows[name] = workflow
        workflow.versions.append(source)
        workflow.latest = len(workflow.versions)
        return workflow.latest, True

    async def workflow(self, name: str, version: int | None = None) -> StoredWorkflow | None:
        await trio.lowlevel.checkpoint()
        workflow = self._workflows.get(name, _Workflow())
        number = workflow.latest if version is None else version
        if number is None or not 1 <= number <= len(workflow.versions):
            return None
        return StoredWorkflow(name, number, workflow.versions[number - 1])

    async def latest_version(self, name: str) -> int | None:
        await trio.lowlevel.checkpoint()
        return self._workflows.get(name, _Workflow()).latest

    async def workflows(self) -> list[StoredWorkflow]:
        await trio.lowlevel.checkpoint()
        return [
            StoredWorkflow(name, workflow.latest, workflow.versions[workflow.latest - 1])
            for name, workflow in sorted(self._workflows.items())
            if workflow.latest is not None
        ]

    async def delete_workflow(self, name: str) -> bool:
        await trio.lowlevel.checkpoint()
        workflow = self._workflows.get(name)
        if workflow is None or workflow.latest is None:
            return False
        workflow.latest = None
        return True

    async def save_action(self, name: str, source: bytes, limits: DefinitionLimits = USUAL_LIMITS) -> bool:
        await trio.lowlevel.checkpoint()
        created = name not in self._actions
        if created and len(self._actions) >= limits.actions_max:
            raise limits.too_many_actions(name)
        self._actions[name] = source
        return created

    async def actions(self) -> dict[str, bytes]:
        await trio.lowlevel.checkpoint()
        return dict(self._actions)

    async def delete_action(self, name: str) -> bool:
        await trio.lowlevel.checkpoint()
        return self._actions.pop(name, None) is not None
