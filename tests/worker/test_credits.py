"""Slots are lent to servers: all of them, to whoever has work, and to each in its turn."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchy.worker.credits import SHARE_MAX, Credits

VERBS = ("join", "leave", "came", "came", "late", "freed", "turn", "end")
STEPS = st.lists(st.tuples(st.sampled_from(VERBS), st.integers(0, 4)))


def holding(slots: int, *servers: str) -> Credits[str]:
    lent: Credits[str] = Credits(slots)
    for server in servers:
        lent.join(server)
    return lent


@given(slots=st.integers(1, 20), steps=STEPS)
def test_what_is_idle_is_lent_and_never_more(slots, steps):
    lent: Credits[int] = Credits(slots)
    told: dict[int, int] = {}  # what each server knows of
    late = 0  # attempts that came though their credit had been taken back
    for verb, server in steps:
        joined = server in lent.credit
        if verb == "join" and not joined:
            told[server] = 0
            changes = lent.join(server)
        elif verb == "leave" and joined:
            del told[server]
            changes = lent.leave(server)
        elif (verb == "came" and joined and told[server] > 0) or (verb == "late" and joined and late < 3):
            late += verb == "late"
            told[server] -= 1
            changes = lent.came(server)
        elif verb == "freed" and lent.running:
            changes = lent.freed()
        elif verb == "turn":
            changes = lent.turn()
        elif verb == "end":
            changes = lent.end_turn()
        else:
            continue
        for changed, change in changes.items():
            told[changed] += change
        assert told == dict(lent.credit)
        assert sum(min(0, credit) for credit in told.values()) >= -late
        assert not told or lent.idle == 0
        assert lent.running + sum(told.values()) <= slots + late
        if not late and told:
            assert lent.running + sum(told.values()) == slots


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
        lent.turn()
        had |= {server for server in servers if lent.credit[server]}
        lent.end_turn()
    assert had == set(servers)


@pytest.mark.parametrize("slots", [1, 2, 3, 8, 40])
@pytest.mark.parametrize("servers", ["ab", "abcde"])
def test_servers_that_all_have_work_get_as_much_each(slots, servers):
    lent = holding(slots, *servers)
    done = dict.fromkeys(servers, 0)
    for step in range(3_000):
        for server in servers:
            while lent.credit[server] > 0:
                lent.came(server)
                done[server] += 1
        lent.freed()
        if step % 20 == 10:
            lent.turn()
        elif lent.asking:
            lent.end_turn()
    assert max(done.values()) <= 1.2 * min(done.values()) + slots


@pytest.mark.parametrize("slots", [1, 2, 4])
def test_idle_servers_cost_a_busy_one_little_and_are_asked_all_the_same(slots):
    lent = holding(slots, "busy", "b", "c", "d", "e")
    asked, steps_with_work = set(), 0
    for step in range(1_000):
        while lent.credit["busy"] > 0:
            lent.came("busy")
        asked |= {server for server in "bcde" if lent.credit[server] > 0}
        steps_with_work += lent.running > 0
        if lent.running:
            lent.freed()
        if step % 50 == 10:
            lent.turn()
        elif step % 3 == 0 and lent.asking:  # a moment later
            lent.end_turn()
    assert asked == set("bcde")
    assert steps_with_work > 900


@pytest.mark.parametrize("frees", [False, True])
def test_turns_take_nobodys_last_one_where_there_is_enough_for_all(frees):
    lent = holding(8, "busy", "b", "c")
    for step in range(100):
        while lent.credit["busy"] > 0:
            lent.came("busy")
        if frees and step % 3 == 0:
            lent.freed()
        if step % 10 == 5:
            lent.turn()
        elif lent.asking:
            lent.end_turn()
    assert min(lent.credit["b"], lent.credit["c"]) >= 1


def test_a_server_whose_turn_comes_while_all_is_busy_has_the_next_free_slot():
    lent = holding(1, "a", "b")
    lent.came("a")
    lent.freed()
    busy = next(server for server in "ab" if lent.credit[server])
    lent.came(busy)
    other = "b" if busy == "a" else "a"
    while not lent.turn() and lent._promised != other:
        pass
    assert lent.freed() == {other: 1}
    lent.came(other)  # it has work: the two go on in turn
    lent.end_turn()
    assert lent.freed() == {busy: 1}


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
    assert (lent.running, lent.credit["a"]) == (2, -1)
    assert lent.freed() == {"a": 1}  # at the server it is 0 again
    assert lent.freed() == {"a": 1}
    assert lent.credit["a"] == 1
