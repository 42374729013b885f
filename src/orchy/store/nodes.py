"""The store's port for the registry of nodes."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct


class RegisteredNode(Struct, frozen=True):
    """A process that serves the namespace. `address` is its gossip address; `instance` is unique to the process."""

    node: str
    instance: str
    address: str
    remaining_ms: int


class NodeStore(Protocol):
    """The registry of processes, by which they find each other and keep their names unique."""

    async def register(self, node: str, instance: str, address: str, lease_ms: int) -> list[RegisteredNode]:
        """Register this process for `lease_ms`; returns all registrations that have not expired.

        If another instance at another address holds the name, nothing is changed, and the answer shows that one.
        """
        ...

    async def unregister(self, node: str, instance: str) -> None:
        """Remove the registration of this process."""
        ...
