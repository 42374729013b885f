"""Finds out that a peer is gone without a word: one that is silent is pinged, and must answer. For both roles."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import trio


@attrs.define(eq=False)
class Keepalive:
    """When the peer was heard last, and whether it owes an answer to a ping."""

    ping_after_seconds: float
    answer_seconds: float
    _heard_at: float = attrs.field(factory=trio.current_time)
    _pinged_at: float | None = None

    def heard(self) -> None:
        """Something arrived."""
        self._heard_at = trio.current_time()
        self._pinged_at = None

    def postpone(self) -> None:
        """Nothing can arrive just now, because we do not read; but the peer takes what we send."""
        self._heard_at = trio.current_time()

    async def watch(self, ping: Callable[[], None]) -> None:
        """Returns when a ping was not answered."""
        while self._pinged_at is None:
            ping_at = self._heard_at + self.ping_after_seconds
            if trio.current_time() < ping_at:
                await trio.sleep_until(ping_at)
                continue
            self._pinged_at = trio.current_time()
            ping()
            await trio.sleep(self.answer_seconds)
