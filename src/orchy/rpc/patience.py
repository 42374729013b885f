"""How much a peer may do without asking for anything, before it is told to calm down (CVE-2019-9512 to 9518,
2023-44487, 2024-27316, 2025-8671). Pure.
"""

from __future__ import annotations

from typing import Final

import attrs

from orchy.rpc.frames import ErrorCode, ProtocolError

#: How much of what asks for nothing a peer may send between two calls of `renew`.
RESETS_MAX: Final = 2_000
IDLE_FRAMES_MAX: Final = 20_000
#: Open streams whose windows are as much work to change as a frame is to take.
STREAMS_PER_IDLE_FRAME: Final = 10


@attrs.define(eq=False)
class Patience:
    """What is left of it with one peer."""

    resets: int = 0
    idle_frames: int = 0

    def note_settings(self, streams: int) -> None:
        """Settings change the window of each stream that is open. Raises ProtocolError."""
        self.idle_frames += streams // STREAMS_PER_IDLE_FRAME
        self.note_idle()

    def note_idle(self) -> None:
        """A frame that asks for nothing. Raises ProtocolError."""
        self.idle_frames += 1
        if self.idle_frames > IDLE_FRAMES_MAX:
            raise ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, "too many frames that ask for nothing")

    def note_reset(self) -> None:
        """A stream that was given up, by whichever side. Raises ProtocolError."""
        self.resets += 1
        if self.resets > RESETS_MAX:
            raise ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, "too many streams that come to nothing")

    def renew(self) -> None:
        """Count from nothing again."""
        self.resets = self.idle_frames = 0
