"""The port of what belongs to no partition: workflows, actions and the namespace's own settings."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from orchy.store.limits import USUAL_LIMITS, DefinitionLimits


class NamespaceSettings(Struct, frozen=True):
    """What is fixed when a namespace is first used. `identity` tells its data from all others, also from copies of it.

    `renewed`: the data were found at another place than before, so the identity is a new one.
    """

    partitions: int
    format_version: int
    identity: str = ""
    renewed: bool = False


class StoredWorkflow(Struct, frozen=True):
    """A workflow definition in one version; `source` is the JSON text that was saved."""

    name: str
    version: int
    source: bytes


class DefinitionStore(Protocol):
    """Workflows, actions and the namespace's own settings: keys that belong to no partition."""

    async def settings(self, wanted: NamespaceSettings, place: str = "") -> NamespaceSettings:
        """The namespace's settings; the first caller's `wanted` become them, and its identity where there is none.

        `place` says where the data are, if the caller knows. When it is not where they were by the last call that
        said so, they were copied or moved, and the identity that is wanted becomes theirs.
        """
        ...

    async def save_workflow(
        self, name: str, source: bytes, limits: DefinitionLimits = USUAL_LIMITS
    ) -> tuple[int, bool]:
        """(version, created). The same text as the newest version makes no new one. A version number is never used
        twice, also not after `delete_workflow`. Raises LimitReached."""
        ...

    async def workflow(self, name: str, version: int | None = None) -> StoredWorkflow | None:
        """One version, by default the newest that was not deleted. An old version stays readable after a delete,
        for the flows that run on it."""
        ...

    async def latest_version(self, name: str) -> int | None:
        """The newest version's number, None if there is none or it was deleted."""
        ...

    async def workflows(self) -> list[StoredWorkflow]:
        """The newest version of each, by name."""
        ...

    async def delete_workflow(self, name: str) -> bool:
        """No new flow can start on it; False if there was none."""
        ...

    async def save_action(self, name: str, source: bytes, limits: DefinitionLimits = USUAL_LIMITS) -> bool:
        """Keep an action definition; True if there was none of that name. Raises LimitReached."""
        ...

    async def actions(self) -> dict[str, bytes]:
        """All action definitions, by name."""
        ...

    async def delete_action(self, name: str) -> bool:
        """False if there was none."""
        ...
