"""Slots are lent to servers: all of them, to whoever has work, and to each in its turn."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchy.worker.credits import SHARE_MAX, Credits

STEPS = st.lists(st.tuples(st.sampled_from(("join", "leave", "came", "came", "freed", "turn")), st.integers(0, 4)))


def holding(slots: int, *servers: str) -> Credits[str]:
    lent: Credits[str] = Credits(slots)
    for server in servers:
        lent.join(server)
    return lent


@given(slots=st.integers(1, 20), steps=STEPS)
def test_what_is_idle_is_lent_and_never_more(slots, steps):
    lent: Credits[int] = Credits(slots)
    told: dict[int, int] = {}  # what each server knows of
    for verb, server in steps:
        joined = server in lent.credit
        if verb == "join" and not joined:
            told[server] = 0
            changes = lent.join(server)
        elif verb == "leave" and joined:
            del told[server]
            changes = lent.leave(server)
        elif verb == "came" and joined and told[server]:
            told[server] -= 1
            changes = lent.came(server)
        elif verb == "freed" and lent.running:
            changes = lent.freed()
        elif verb == "turn":
            changes = lent.turn()
        else:
            continue
        for changed, change in changes.items():
            told[changed] += change
        assert told == dict(lent.credit)
        assert all(credit >= 0 for credit in told.values())
        assert lent.running + sum(told.values()) == (slots if told else lent.running)


@given(slots=st.integers(2, 40), others=st.integers(1, 5))
def test_one_that_has_work_gets_all_but_the_others_share(slots, others):
    lent = holding(slots, "busy", *(f"idle{number}" for number in range(others)))
    while lent.credit["busy"]:
        lent.came("busy")
    share = min(SHARE_MAX, slots // (others + 2))
    if share:
        assert all(lent.credit[server] <= share for server in lent.credit)


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_each_has_its_turn_where_slots_are_few(slots):
    servers = list("abcde")
    lent = holding(slots, *servers)
    had = set()
    for _ in range(len(servers)):
        had |= {server for server in servers if lent.credit[server]}
        lent.turn()
    assert had == set(servers)


def test_one_that_joins_gets_its_share_at_once():
    lent = holding(16, "a")
    assert lent.credit["a"] == 16
    assert lent.join("b") == {"a": -4, "b": 4}


def test_what_a_lost_server_had_goes_to_the_others():
    lent = holding(9, "a", "b", "c")
    assert lent.leave("b")
    assert lent.leave("b") == {}
    assert sum(lent.credit.values()) == 9


def test_what_comes_beyond_the_credit_is_worked_on_and_paid_back():
    lent = holding(1, "a")
    lent.came("a")
    assert lent.came("a") == {}
    assert lent.running == 2
    assert lent.freed() == {}
    assert lent.freed() == {"a": 1}
