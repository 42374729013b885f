"""The store's port for quarantine: flows that could not be moved wait until an operator releases them."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct


class Quarantine(Struct, frozen=True):
    """Since when a flow's timers are set aside, and because of which error."""

    since_ms: int
    error: str


def parse_quarantine(text: bytes) -> Quarantine | None:
    """Parse `<ms> <error>`; None for an empty text."""
    since_ms, _, error = text.partition(b" ")
    return Quarantine(int(since_ms), error.decode(errors="replace")) if text else None


class QuarantineStore(Protocol):
    """Flows in quarantine."""

    async def quarantine(self, partition: int, flow_id: str, error: str, entry: bytes) -> bool:
        """Set aside each timer of a flow that comes due, until it is released or over; all else goes on as usual.

        Its version stays; `entry` is added to its history. False if it is unknown, over, or in quarantine already.
        """
        ...

    async def release_flow(self, partition: int, flow_id: str, entry: bytes) -> bool | None:
        """End a quarantine: timers that were set aside are due now. False if there was none; None without such a flow.

        A timer that was set again meanwhile is not changed. `entry` is added to the history.
        """
        ...
