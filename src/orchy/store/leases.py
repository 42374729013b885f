"""The store's port for leases: which node owns which partition."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from msgspec import Struct


class Lease(Struct, frozen=True):
    """The right to work on a partition. Its epoch only rises."""

    partition: int
    epoch: int


class Owner(Struct, frozen=True):
    """The holder of a partition's lease, and for how much longer it has it (<= 0: expired)."""

    partition: int
    node: str
    epoch: int
    remaining_ms: int


class LeaseStore(Protocol):
    """Leases on partitions."""

    async def acquire(
        self, partitions: Sequence[int], node: str, lease_ms: int, instead_of: Collection[str] = ()
    ) -> list[Lease]:
        """Take the leases that are free, expired, released or already the node's, each with its epoch raised by one.

        `instead_of` names nodes that are known to be gone: their leases are taken as well. Leases that another node
        holds are left out of the answer.
        """
        ...

    async def renew(self, leases: Sequence[Lease], node: str, lease_ms: int) -> list[Lease]:
        """Prolong leases; returns those that are still the node's."""
        ...

    async def release(self, leases: Sequence[Lease], node: str) -> None:
        """Give up the leases that are still the node's. The epoch is kept, so that the next owner's is higher."""
        ...

    async def owners(self, partitions: Sequence[int]) -> list[Owner]:
        """The owner of each partition, without those that never had one."""
        ...
