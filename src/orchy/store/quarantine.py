"""Flows that could not be moved, and are left alone until somebody releases them: a part of the store's port."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct


class Quarantine(Struct, frozen=True):
    """Since when timers of a flow are set aside, and the error for which they are."""

    since_ms: int
    error: str


def parse_quarantine(text: bytes) -> Quarantine | None:
    """What a store keeps as `<ms> <error>`; None for an empty text."""
    since_ms, _, error = text.partition(b" ")
    return Quarantine(int(since_ms), error.decode(errors="replace")) if text else None


class QuarantineStore(Protocol):
    """Which flows are in quarantine."""

    async def quarantine(self, partition: int, flow_id: str, error: str, entry: bytes) -> bool:
        """Set aside each timer of a flow that comes due, until it is released or over; all else goes on as ever.

        Its version stays; `entry` comes into its history. False: it is not there, is over, or was in quarantine.
        """
        ...

    async def release_flow(self, partition: int, flow_id: str, entry: bytes) -> bool | None:
        """End a quarantine: what was set aside is due now. False: it was in none; None: there is no such flow.

        A timer that was set anew meanwhile stays as it was set. `entry` comes into the history.
        """
        ...
