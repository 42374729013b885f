"""The life of a worker's stream on the server: what may happen in each state, and what is done then. Pure.

`SESSION_LIFE` has a row for each trigger that does something in a state; where one does nothing it stands in IGNORED,
and what stands in neither can't happen. The documentation's diagram is drawn from the table.

The rules that hold whatever comes, in whatever order:

* A stream never goes back: once no more work is handed out, none is until its end.
* What was handed out and can't be sent any more goes back into its queue, also when it arrives late.
* Results that the worker has pushed are carried out to the end, whether or not it is still there.
"""

from __future__ import annotations

from enum import StrEnum

import attrs


class State(StrEnum):
    """Where a stream stands."""

    OPENING = "opening"  # nothing is read yet
    SERVING = "serving"
    DRAINING = "draining"  # no more work is handed out; what already was may still arrive here
    DRAINED = "drained"  # all of it has; a goodbye follows it to the worker. Results are still taken
    CLOSING = "closing"  # nothing more is read; results that are with the store are still answered
    CLOSED = "closed"
    ABANDONED = "abandoned"  # the worker was silent for a lease, and is told nothing more


class Trigger(StrEnum):
    """What can happen to a stream."""

    BEGIN = "begin"
    NO_MORE_WORK = "no more work"  # the worker says goodbye, or the server is about to stop
    SETTLED = "settled"  # nothing that was handed out is still to arrive, or it has taken too long
    INPUT_ENDED = "input ended"  # by the worker, or by an error of ours
    HANG_UP = "hang up"  # the call is over, or the worker broke a rule
    SILENCE = "silence"  # nothing was heard of the worker for a lease
    FINISHED = "finished"  # all results are with the store, all that was not sent is given back


class Effect(StrEnum):
    """What the session does in answer to a trigger."""

    STOP_HANDING_OUT = "stop handing out"
    SEND_GOODBYE = "send goodbye"
    STOP_READING = "stop reading"
    GIVE_BACK = "give back"


@attrs.frozen
class Row:
    """In `state`, `trigger` has these effects, in this order; the stream is then in `leads_to`."""

    state: State
    trigger: Trigger
    effects: tuple[Effect, ...]
    leads_to: State


_HANG_UP = (Effect.STOP_READING, Effect.STOP_HANDING_OUT, Effect.GIVE_BACK)

SESSION_LIFE: tuple[Row, ...] = (
    Row(State.OPENING, Trigger.BEGIN, (), State.SERVING),
    Row(State.OPENING, Trigger.HANG_UP, _HANG_UP, State.CLOSING),
    Row(State.SERVING, Trigger.NO_MORE_WORK, (Effect.STOP_HANDING_OUT,), State.DRAINING),
    Row(State.SERVING, Trigger.INPUT_ENDED, (Effect.STOP_HANDING_OUT,), State.CLOSING),
    Row(State.SERVING, Trigger.HANG_UP, _HANG_UP, State.CLOSING),
    Row(State.SERVING, Trigger.SILENCE, _HANG_UP, State.ABANDONED),
    Row(State.DRAINING, Trigger.SETTLED, (Effect.SEND_GOODBYE,), State.DRAINED),
    Row(State.DRAINING, Trigger.INPUT_ENDED, (), State.CLOSING),
    Row(State.DRAINING, Trigger.HANG_UP, _HANG_UP, State.CLOSING),
    Row(State.DRAINING, Trigger.SILENCE, _HANG_UP, State.ABANDONED),
    Row(State.DRAINED, Trigger.INPUT_ENDED, (), State.CLOSING),
    Row(State.DRAINED, Trigger.HANG_UP, _HANG_UP, State.CLOSING),
    Row(State.DRAINED, Trigger.SILENCE, _HANG_UP, State.ABANDONED),
    # A worker that ended its stream without a goodbye may still read ours.
    Row(State.CLOSING, Trigger.SETTLED, (Effect.SEND_GOODBYE,), State.CLOSING),
    Row(State.CLOSING, Trigger.HANG_UP, _HANG_UP, State.CLOSING),
    Row(State.CLOSING, Trigger.FINISHED, (), State.CLOSED),
    # The call's end comes last: what it was sending when it broke was not sent.
    Row(State.CLOSED, Trigger.HANG_UP, (Effect.GIVE_BACK,), State.CLOSED),
    Row(State.ABANDONED, Trigger.HANG_UP, (Effect.GIVE_BACK,), State.ABANDONED),
)

#: What may happen, and changes nothing.
IGNORED: frozenset[tuple[State, Trigger]] = frozenset(
    {
        (State.DRAINING, Trigger.NO_MORE_WORK),
        (State.DRAINED, Trigger.NO_MORE_WORK),
        (State.CLOSING, Trigger.BEGIN),  # the call was over before the session's task began
        (State.CLOSING, Trigger.NO_MORE_WORK),
        (State.CLOSING, Trigger.INPUT_ENDED),
        (State.CLOSING, Trigger.SILENCE),
        (State.CLOSED, Trigger.SILENCE),
        (State.ABANDONED, Trigger.NO_MORE_WORK),
        (State.ABANDONED, Trigger.SETTLED),
        (State.ABANDONED, Trigger.INPUT_ENDED),
        (State.ABANDONED, Trigger.SILENCE),
        (State.ABANDONED, Trigger.FINISHED),
    }
)

#: While a stream is in one of these, attempts are sent to the worker; afterwards they go back.
SENDS_ATTEMPTS = frozenset({State.OPENING, State.SERVING, State.DRAINING, State.DRAINED})
#: In these a stream ends.
ENDS = frozenset({State.CLOSED, State.ABANDONED})

_ROWS = {(row.state, row.trigger): row for row in SESSION_LIFE}
assert len(_ROWS) == len(SESSION_LIFE), "a pair has one row"
assert not IGNORED & _ROWS.keys(), "what has a row is not ignored"


def row_for(state: State, trigger: Trigger) -> Row | None:
    """What happens; None: nothing."""
    row = _ROWS.get((state, trigger))
    assert row is not None or (state, trigger) in IGNORED, f"{trigger} while {state}"
    return row
