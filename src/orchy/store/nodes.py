"""Which processes serve the namespace: a part of the store's port."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct


class RegisteredNode(Struct, frozen=True):
    """A process that serves the namespace. `address` is its gossip's; `instance` differs for each process."""

    node: str
    instance: str
    address: str
    remaining_ms: int


class NodeStore(Protocol):
    """Which processes serve the namespace, so that they find each other, and no two have one name."""

    async def register(self, node: str, instance: str, address: str, lease_ms: int) -> list[RegisteredNode]:
        """Say for `lease_ms` that this process is there; the answer holds all whose time is not over.

        If another instance holds the name, at another address, nothing is changed, and the answer shows it.
        """
        ...

    async def unregister(self, node: str, instance: str) -> None:
        """This process is not there any more."""
        ...
