"""Counts what a peer does without asking for anything, and ends the connection when it is too much. Pure.

The attacks: CVE-2019-9512 to 9518, 2023-44487, 2024-27316, 2025-8671.
"""

from __future__ import annotations

from typing import Final

import attrs

from orchy.rpc.http2.frames import ErrorCode, ProtocolError
from orchy.rpc.http2.limits import FloodLimits

#: A DATA frame with fewer bytes than its head hardly carries anything (CVE-2019-9511).
DATA_BYTES_MIN: Final = 9


@attrs.define(eq=False)
class FloodGuard:
    """The counts of one peer since the last `reset`."""

    limits: FloodLimits
    resets: int = 0
    idle_frames: int = 0
    window_updates_due: int = 0

    def count_settings(self, settings: int, streams: int) -> None:
        """Settings change the window of each open stream. Raises ProtocolError."""
        self.idle_frames += (settings + streams) // self.limits.changes_per_idle_frame
        self.count_idle_frame()

    def count_data_sent(self, frames: int = 1) -> None:
        """We sent DATA: the peer will open windows for it."""
        self.window_updates_due += frames * self.limits.window_updates_per_data_frame

    def count_window_update(self) -> None:
        """Idle unless DATA was sent for it. Raises ProtocolError."""
        if self.window_updates_due > 0:
            self.window_updates_due -= 1
        else:
            self.count_idle_frame()

    def count_idle_frame(self) -> None:
        """A frame that asks for nothing. Raises ProtocolError."""
        self.idle_frames += 1
        if self.idle_frames > self.limits.idle_frames_max:
            raise ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, "too many frames that ask for nothing")

    def count_reset(self) -> None:
        """A stream was given up, by either side. Raises ProtocolError."""
        self.resets += 1
        if self.resets > self.limits.resets_max:
            raise ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, "too many streams that come to nothing")

    def reset(self) -> None:
        """Count from zero again."""
        self.resets = self.idle_frames = 0
        self.window_updates_due = min(self.window_updates_due, self.limits.idle_frames_max)
