"""Whoever is told what a commit brings about, and the workers that it may hand work to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from orchy.store.queues import Receipt


class Wakeups(Protocol):
    """Whoever is to know at once what a commit put into a partition."""

    def enqueued(self, partition: int, action_names: Sequence[str]) -> None:
        """There is work for these actions."""
        ...

    def timer_set(self, partition: int, after_ms: int) -> None:
        """A timer is due so long from now."""
        ...


class Observer(Protocol):
    """Whoever counts what happens."""

    def flow_started(self) -> None:
        """A flow was accepted."""
        ...

    def flow_ended(self, state: str) -> None:
        """A flow is over."""
        ...

    def result_taken(self, verdict: str) -> None:
        """A worker's result was answered."""
        ...


class Reservation(Protocol):
    """A worker that waits for an attempt, and keeps a place for it until one of the two is said."""

    @property
    def worker(self) -> str:
        """What histories call it."""
        ...

    @property
    def lease_ms(self) -> int:
        """How long it may be silent; 0: it has no lease."""
        ...

    def take(self, body: bytes, receipt: Receipt) -> None:
        """Here it is, handed out."""
        ...

    def release(self) -> None:
        """There is none after all."""
        ...


class HandOff(Protocol):
    """Whoever knows the workers that wait on this node."""

    def reserve(self, action_name: str) -> Reservation | None:
        """One that waits for an attempt of this action; None: it goes into its queue."""
        ...
