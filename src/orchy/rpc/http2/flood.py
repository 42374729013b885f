"""How much a peer may do without asking for anything, before it is told to calm down (CVE-2019-9512 to 9518,
2023-44487, 2024-27316, 2025-8671). Pure.
"""

from __future__ import annotations

from typing import Final

import attrs

from orchy.rpc.http2.frames import ErrorCode, ProtocolError

#: How much of what asks for nothing a peer may send between two calls of `renew`.
RESETS_MAX: Final = 2_000
IDLE_FRAMES_MAX: Final = 20_000
#: Open streams whose windows, or settings, that are as much work to change as a frame is to take.
CHANGES_PER_IDLE_FRAME: Final = 10
#: How often a peer may open windows for each DATA frame that it got: its stream's, the connection's, with room to
#: spare. What it saves up is at most IDLE_FRAMES_MAX after a `renew`.
WINDOWS_PER_DATA_FRAME: Final = 4
#: A DATA frame with fewer bytes than its head hardly carries anything (CVE-2019-9511).
DATA_BYTES_MIN: Final = 9


@attrs.define(eq=False)
class FloodGuard:
    """What is left of it with one peer."""

    resets: int = 0
    idle_frames: int = 0
    window_updates_due: int = 0

    def count_settings(self, settings: int, streams: int) -> None:
        """Settings change the window of each stream that is open. Raises ProtocolError."""
        self.idle_frames += (settings + streams) // CHANGES_PER_IDLE_FRAME
        self.count_idle_frame()

    def count_data_sent(self, frames: int = 1) -> None:
        """The peer got DATA, for which it opens windows."""
        self.window_updates_due += frames * WINDOWS_PER_DATA_FRAME

    def count_window_update(self) -> None:
        """A window was opened: idle unless the peer got data for it. Raises ProtocolError."""
        if self.window_updates_due > 0:
            self.window_updates_due -= 1
        else:
            self.count_idle_frame()

    def count_idle_frame(self) -> None:
        """A frame that asks for nothing. Raises ProtocolError."""
        self.idle_frames += 1
        if self.idle_frames > IDLE_FRAMES_MAX:
            raise ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, "too many frames that ask for nothing")

    def count_reset(self) -> None:
        """A stream that was given up, by whichever side. Raises ProtocolError."""
        self.resets += 1
        if self.resets > RESETS_MAX:
            raise ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, "too many streams that come to nothing")

    def renew(self) -> None:
        """Count from nothing again."""
        self.resets = self.idle_frames = 0
        self.window_updates_due = min(self.window_updates_due, IDLE_FRAMES_MAX)
