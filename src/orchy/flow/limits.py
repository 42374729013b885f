"""How much one flow may hold, so that nobody fills the store by mistake or on purpose. Each limit has a name."""

from __future__ import annotations

import attrs

#: How many events a flow keeps for waits that it has not reached, and how large one, and all of them, may be.
KEPT_EVENTS_MAX = 1_000
KEPT_EVENT_BYTES_MAX = 2**20
KEPT_EVENTS_BYTES_MAX = 10 * 2**20
#: How many of the last events taken in are remembered, at least, to know one that is sent again.
RECENT_EVENTS_MAX = 1_000
#: An event's id, as clients give it.
EVENT_ID_CHARS_MAX = 128
#: How many results that came too late a flow's history has of one action; of each attempt it has one.
LATE_RESULTS_MAX = 10
#: What a flow holds together: its input, outputs and kept events. A result that makes it more fails the flow.
FLOW_BYTES_MAX = 32 * 2**20
#: A longer text of an error is cut, in the flow and in its history.
ERROR_CHARS_MAX = 2_000
#: A longer entry of a history is cut.
HISTORY_ENTRY_BYTES_MAX = 4_096


@attrs.frozen
class Limits:
    """Those that depend on what a flow has, for one flow each."""

    kept_events_max: int = KEPT_EVENTS_MAX
    kept_event_bytes_max: int = KEPT_EVENT_BYTES_MAX
    kept_events_bytes_max: int = KEPT_EVENTS_BYTES_MAX
    late_results_max: int = LATE_RESULTS_MAX
    flow_bytes_max: int = FLOW_BYTES_MAX


#: Where nobody set others.
DEFAULT_LIMITS = Limits()


def shortened(text: str, chars_max: int = ERROR_CHARS_MAX) -> str:
    """The text, cut to its first `chars_max` characters with a note of how many there were."""
    return text if len(text) <= chars_max else f"{text[:chars_max]} ... (cut, it has {len(text):,} characters)"
