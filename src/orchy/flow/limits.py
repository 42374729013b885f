"""How much one flow may hold, so that no client can fill the store, by mistake or on purpose."""

from __future__ import annotations

import attrs

#: How many events a flow keeps for waits that it has not reached, the size of one, and the size of all.
KEPT_EVENTS_MAX = 1_000
KEPT_EVENT_BYTES_MAX = 2**20
KEPT_EVENTS_BYTES_MAX = 10 * 2**20
#: How many of the last events are remembered, at least, to recognize one that is sent again.
RECENT_EVENTS_MAX = 1_000
#: The length of an event id that a client gives.
EVENT_ID_CHARS_MAX = 128
#: How many late results of one action the history records, one for each attempt.
LATE_RESULTS_MAX = 10
#: The size of a flow: its input, outputs and kept events. A result that would exceed it fails the flow.
FLOW_BYTES_MAX = 32 * 2**20
#: Longer error messages are cut, in the flow and in its history.
ERROR_CHARS_MAX = 2_000
#: Longer history entries are cut.
HISTORY_ENTRY_BYTES_MAX = 4_096


@attrs.frozen
class Limits:
    """The limits of one flow that depend on what it holds; the constants above are the defaults."""

    kept_events_max: int = KEPT_EVENTS_MAX
    kept_event_bytes_max: int = KEPT_EVENT_BYTES_MAX
    kept_events_bytes_max: int = KEPT_EVENTS_BYTES_MAX
    late_results_max: int = LATE_RESULTS_MAX
    flow_bytes_max: int = FLOW_BYTES_MAX


DEFAULT_LIMITS = Limits()


def shortened(text: str, chars_max: int = ERROR_CHARS_MAX) -> str:
    """The text, cut to `chars_max` characters with a note of its full length."""
    return text if len(text) <= chars_max else f"{text[:chars_max]} ... (cut, it has {len(text):,} characters)"
