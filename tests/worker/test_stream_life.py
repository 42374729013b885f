"""The table of a stream's states: without a way back, always leading to the end, and its owner told in order."""

from __future__ import annotations

import pytest

from orchy.worker.stream_life import SENDS, STREAM_LIFE, Effect, State, Trigger, row_for

ORDER = [State.OPENING, State.RECALLED, State.OPEN, State.LEAVING, State.PARTING, State.ENDED, State.CLOSED]


def test_no_stream_goes_back_and_each_ends():
    assert set(ORDER) == set(State)
    for row in STREAM_LIFE:
        assert ORDER.index(row.leads_to) > ORDER.index(row.state)
    for state in ORDER[:-1]:
        row = row_for(state, Trigger.GONE)
        assert row is not None
        assert row.leads_to is State.CLOSED


def ways(state: State) -> list[list[Effect]]:
    """What an owner hears from a state on, for each way to the end."""
    rows = [row for row in STREAM_LIFE if row.state is state]
    return [[*row.effects, *rest] for row in rows for rest in ways(row.leads_to)] or [[]]


def test_an_owner_lends_credit_once_at_most_and_always_hears_that_it_is_over():
    for heard in ways(State.OPENING):
        assert heard.count(Effect.OFFER) <= 1
        assert heard[-2:] == [Effect.WITHDRAW, Effect.LOSE]
        assert Effect.OFFER not in heard[1:], "nothing is offered on a stream that is about to leave"


def test_a_goodbye_leaves_before_the_end_unless_the_stream_breaks():
    for row in STREAM_LIFE:
        if row.leads_to is State.ENDED:
            assert row.state is State.PARTING
        if row.leads_to is State.PARTING:
            assert row.trigger is Trigger.GOODBYE_SENT


@pytest.mark.parametrize("state", State)
def test_a_stream_may_be_told_to_leave_at_any_time_and_nothing_else_is_ignored(state):
    row_for(state, Trigger.LEAVE)
    for trigger in set(Trigger) - {Trigger.LEAVE}:
        if not any((row.state, row.trigger) == (state, trigger) for row in STREAM_LIFE):
            with pytest.raises(AssertionError):
                row_for(state, trigger)


def test_results_can_be_sent_until_the_last():
    assert {State.OPEN, State.LEAVING, State.PARTING} == SENDS
