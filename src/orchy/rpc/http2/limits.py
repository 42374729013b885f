"""What an HTTP/2 peer may do before it is refused."""

from __future__ import annotations

import attrs


@attrs.frozen
class FloodLimits:
    """What a peer may send without asking for anything, each between two calls of `FloodGuard.reset`."""

    #: Streams that come to nothing, whichever side resets them.
    resets_max: int = 2_000
    #: Frames that ask for nothing: pings, empty DATA, acknowledgements...
    idle_frames_max: int = 20_000
    #: So many open streams whose windows change, or settings, are as much work as one idle frame.
    changes_per_idle_frame: int = 10
    #: How often a peer may open windows for each DATA frame that it got: its stream's, the connection's, with some to
    #: spare. What it saves up is at most `idle_frames_max` after a `reset`.
    window_updates_per_data_frame: int = 4


@attrs.frozen
class Http2Limits:
    """Of one connection."""

    #: Streams that the peer may have open at the same time.
    streams_max: int
    #: Bytes that may arrive before they are taken, on one stream and on all together.
    stream_window_bytes: int
    window_bytes: int
    #: Streams that were reset here, whose late frames are ignored.
    reset_streams_remembered: int = 1_000
    flood: FloodLimits = FloodLimits()
