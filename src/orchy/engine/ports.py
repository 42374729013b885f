"""The engine's ports: who is notified of a commit's consequences, and the workers that it may hand attempts to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from orchy.store.queues import Receipt


class Wakeups(Protocol):
    """Is notified at once of new work and timers in a partition."""

    def enqueued(self, partition: int, action_names: Sequence[str]) -> None:
        """Attempts of these actions were queued."""
        ...

    def timer_set(self, partition: int, after_ms: int) -> None:
        """A timer was set that is due after this time."""
        ...


class Observer(Protocol):
    """Counts what happens, for metrics."""

    def flow_started(self) -> None:
        """A flow was accepted."""
        ...

    def flow_ended(self, state: str) -> None:
        """A flow is over."""
        ...

    def result_taken(self, verdict: str) -> None:
        """A worker's result was answered with this verdict."""
        ...


class Reservation(Protocol):
    """A worker's room for one attempt, held until `take` or `release` is called."""

    @property
    def worker(self) -> str:
        """The worker's name in histories."""
        ...

    @property
    def lease_ms(self) -> int:
        """How long the worker may be silent before the attempt is lost; 0: without a lease."""
        ...

    def take(self, body: bytes, receipt: Receipt) -> None:
        """Deliver the attempt, which is handed out now."""
        ...

    def release(self) -> None:
        """Give the room back: there is no attempt."""
        ...


class HandOff(Protocol):
    """Knows the workers that wait on this node."""

    def reserve(self, action_name: str) -> Reservation | None:
        """Reserve a worker that waits for an attempt of this action; None if there is none."""
        ...
