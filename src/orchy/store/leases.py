"""Which node owns which partition: a part of the store's port."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from msgspec import Struct


class Lease(Struct, frozen=True):
    """The right to work on a partition. Epochs only rise."""

    partition: int
    epoch: int


class Owner(Struct, frozen=True):
    """Who holds a partition's lease, and for how much longer (<= 0: it has expired)."""

    partition: int
    node: str
    epoch: int
    remaining_ms: int


class LeaseStore(Protocol):
    """Who owns which partition."""

    async def acquire(
        self, partitions: Sequence[int], node: str, lease_ms: int, instead_of: Collection[str] = ()
    ) -> list[Lease]:
        """Take the leases that are free, expired, released or already the node's, each with its epoch raised by one.

        `instead_of` names nodes that are known to be gone: what one of them still holds is taken as well. Those that
        somebody else still holds are left out of the answer.
        """
        ...

    async def renew(self, leases: Sequence[Lease], node: str, lease_ms: int) -> list[Lease]:
        """Prolong; the answer holds those that are still the node's."""
        ...

    async def release(self, leases: Sequence[Lease], node: str) -> None:
        """Give up those that are still the node's. The epoch stays, so that the next owner's is higher."""
        ...

    async def owners(self, partitions: Sequence[int]) -> list[Owner]:
        """Who holds each partition; those that nobody ever held are left out."""
        ...
