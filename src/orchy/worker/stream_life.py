"""The life of the stream to one server, on the worker's side. Pure.

`STREAM_LIFE` has a row for each trigger that does something in a state. A stream that was told to leave says goodbye to
the server at once, and ends when the results of all that it holds are delivered. The documentation's diagram is drawn
from the table.
"""

from __future__ import annotations

from enum import StrEnum

import attrs


class State(StrEnum):
    """Where a stream stands."""

    OPENING = "opening"
    RECALLED = "recalled"  # told to leave before it was open
    OPEN = "open"
    LEAVING = "leaving"  # the goodbye leaves with the next message
    PARTING = "parting"  # it has left; results of what is held still follow
    ENDED = "ended"  # all is sent, the server ends the stream
    CLOSED = "closed"


class Trigger(StrEnum):
    """What can happen to a stream."""

    OPENED = "opened"
    LEAVE = "leave"  # the worker stops, or the server says goodbye or is not to be worked with any more
    GOODBYE_SENT = "goodbye sent"
    ALL_SENT = "all sent"
    GONE = "gone"  # either side has ended the stream, or it broke


class Effect(StrEnum):
    """What the stream tells its owner."""

    OFFER = "offer"  # it can have credit
    WITHDRAW = "withdraw"  # there will be no more work on it
    LOSE = "lose"  # its server renews no lease any more


@attrs.frozen
class Row:
    """In `state`, `trigger` has these effects; the stream is then in `leads_to`."""

    state: State
    trigger: Trigger
    effects: tuple[Effect, ...]
    leads_to: State


_GONE = (Effect.WITHDRAW, Effect.LOSE)

STREAM_LIFE: tuple[Row, ...] = (
    Row(State.OPENING, Trigger.OPENED, (Effect.OFFER,), State.OPEN),
    Row(State.OPENING, Trigger.LEAVE, (Effect.WITHDRAW,), State.RECALLED),
    Row(State.OPENING, Trigger.GONE, _GONE, State.CLOSED),
    Row(State.RECALLED, Trigger.OPENED, (), State.LEAVING),
    Row(State.RECALLED, Trigger.GONE, _GONE, State.CLOSED),
    Row(State.OPEN, Trigger.LEAVE, (Effect.WITHDRAW,), State.LEAVING),
    Row(State.OPEN, Trigger.GONE, _GONE, State.CLOSED),
    Row(State.LEAVING, Trigger.GOODBYE_SENT, (), State.PARTING),
    Row(State.LEAVING, Trigger.GONE, _GONE, State.CLOSED),
    Row(State.PARTING, Trigger.ALL_SENT, (), State.ENDED),
    Row(State.PARTING, Trigger.GONE, _GONE, State.CLOSED),
    Row(State.ENDED, Trigger.GONE, _GONE, State.CLOSED),
)

#: While a stream is in one of these, messages can be sent on it.
SENDS = frozenset({State.OPEN, State.LEAVING, State.PARTING})

_ROWS = {(row.state, row.trigger): row for row in STREAM_LIFE}
assert len(_ROWS) == len(STREAM_LIFE), "a pair has one row"


def row_for(state: State, trigger: Trigger) -> Row | None:
    """What happens; None: nothing. To leave is the only thing that may be said at any time."""
    row = _ROWS.get((state, trigger))
    assert row is not None or trigger is Trigger.LEAVE, f"{trigger} while {state}"
    return row
