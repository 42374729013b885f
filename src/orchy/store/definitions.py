"""The store's port for definitions: workflows, actions and the namespace's settings, which belong to no partition."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from orchy.store.limits import USUAL_LIMITS, DefinitionLimits


class NamespaceSettings(Struct, frozen=True):
    """What is fixed when a namespace is first used. `identity` tells its data from all others, also from copies.

    `renewed`: the data were found at another place than before, and got a new identity.
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
    """Workflows, actions and the namespace's settings."""

    async def settings(self, wanted: NamespaceSettings, place: str = "") -> NamespaceSettings:
        """The namespace's settings; those that the first caller wants are stored, and an identity if there is none.

        `place` says where the data are, if the caller knows. If it differs from the last one given, the data were
        copied or moved, and get the wanted identity.
        """
        ...

    async def save_workflow(
        self, name: str, source: bytes, limits: DefinitionLimits = USUAL_LIMITS
    ) -> tuple[int, bool]:
        """Save a definition; returns (version, created). The text of the newest version makes no new one.

        A version number is never used twice, not even after `delete_workflow`. Raises LimitReached.
        """
        ...

    async def workflow(self, name: str, version: int | None = None) -> StoredWorkflow | None:
        """One version, by default the newest, unless it was deleted.

        An old version stays readable after a delete, for the flows that run on it.
        """
        ...

    async def latest_version(self, name: str) -> int | None:
        """The number of the newest version; None if there is none, or it was deleted."""
        ...

    async def workflows(self) -> list[StoredWorkflow]:
        """The newest version of each workflow, by name."""
        ...

    async def delete_workflow(self, name: str) -> bool:
        """Let no new flow start on a workflow; False if there was none."""
        ...

    async def save_action(self, name: str, source: bytes, limits: DefinitionLimits = USUAL_LIMITS) -> bool:
        """Save an action definition; True if there was none of that name. Raises LimitReached."""
        ...

    async def actions(self) -> dict[str, bytes]:
        """All action definitions, by name."""
        ...

    async def delete_action(self, name: str) -> bool:
        """Delete an action definition; False if there was none."""
        ...
