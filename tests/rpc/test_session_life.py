"""The table of a session's states: complete, without a way back, and always leading to an end."""

from __future__ import annotations

from itertools import product

import pytest

from orchy.rpc.api.session_life import ENDS, IGNORED, SENDS_ATTEMPTS, SESSION_LIFE, Effect, State, Trigger, row_for

ORDER = {state: number for number, state in enumerate(State)}
FORWARD = {state: {row.leads_to for row in SESSION_LIFE if row.state is state} - {state} for state in State}


def reachable(start: State) -> set[State]:
    found = {start}
    left = [start]
    while left:
        for state in FORWARD[left.pop()] - found:
            found.add(state)
            left.append(state)
    return found


def test_all_states_are_reached():
    assert reachable(State.OPENING) == set(State)


@pytest.mark.parametrize("state", State)
def test_from_each_state_there_is_a_way_to_an_end(state):
    assert reachable(state) & ENDS


def test_no_stream_goes_back():
    for row in SESSION_LIFE:
        assert ORDER[row.leads_to] >= ORDER[row.state]
        assert row.state in SENDS_ATTEMPTS or row.leads_to not in SENDS_ATTEMPTS
    for state in ENDS:
        assert not FORWARD[state]


def test_the_call_may_be_over_at_any_time_and_what_was_being_sent_then_goes_back():
    for state in State:
        row = row_for(state, Trigger.HANG_UP)
        assert row is not None
        assert Effect.GIVE_BACK in row.effects


def test_work_is_stopped_once_on_each_way_before_results_are_the_last():
    """Whoever leaves SERVING has stopped it, and nobody has who has not left."""
    for row in SESSION_LIFE:
        if row.state in (State.OPENING, State.SERVING) and row.leads_to not in (State.OPENING, State.SERVING):
            assert Effect.STOP_HANDING_OUT in row.effects
        if row.leads_to in (State.OPENING, State.SERVING):
            assert Effect.STOP_HANDING_OUT not in row.effects


def test_nothing_is_said_to_a_worker_that_was_given_up():
    for row in SESSION_LIFE:
        if row.leads_to is State.ABANDONED:
            assert Effect.SEND_GOODBYE not in row.effects


def test_what_can_not_happen_is_a_bug():
    rows = {(row.state, row.trigger) for row in SESSION_LIFE}
    for pair in product(State, Trigger):
        if pair in rows:
            assert row_for(*pair) is not None
        elif pair in IGNORED:
            assert row_for(*pair) is None
        else:
            with pytest.raises(AssertionError):
                row_for(*pair)


async def test_sessions_stay_within_the_table_whatever_workers_do(autojump_clock, node):
    """The pairs that the table calls impossible do not come about by the ways that a stream can end."""
    await node.start(3)
    async with node.worker() as worker, node.worker() as other:
        await worker.credit("a", 2)
        await worker.say(goodbye=True)
        await worker.say(goodbye=True)
        await worker.say(credits=[])
        node.engine.dispatcher.close()
        await other.say(goodbye=True)
        other.stream.end()
        await other.ended.wait()
        assert other.status is None
        node.connections[0].drain()
        await worker.ended.wait()
        assert worker.status is None
        assert worker.goodbyes == other.goodbyes == 1
    assert node.sessions.open == 0
