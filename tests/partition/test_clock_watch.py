"""Jumps of the store's clock are noticed; slow answers, drift and the first scan are not taken for jumps."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orchy.partition.clock import JUMP_MIN_MS, ClockWatch

START_MS = 1_790_000_000_000


def test_jumps_forward_and_back_are_reported_with_their_length():
    watch = ClockWatch()
    assert watch.note(START_MS, 0, 1) is None
    assert watch.note(START_MS + 1_000, 1_000, 1_001) is None
    assert 24_990 <= watch.note(START_MS + 27_000, 2_000, 2_001) <= 25_000
    assert watch.note(START_MS + 28_000, 3_000, 3_001) is None
    assert -25_000 <= watch.note(START_MS + 4_000, 4_000, 4_001) <= -24_990
    assert watch.jumps == 2


def test_a_slow_answer_is_no_jump():
    watch = ClockWatch()
    watch.note(START_MS, 0, 1)
    assert watch.note(START_MS + 1_000, 1_000, 9_000) is None  # answered at once, read late
    assert watch.note(START_MS + 17_999, 10_000, 18_000) is None  # answered late
    assert watch.note(START_MS + 19_000, 19_000, 19_001) is None
    assert watch.jumps == 0


@given(st.lists(st.tuples(st.integers(1, 5_000), st.integers(0, 3_000), st.integers(0, 3_000)), max_size=30))
def test_an_even_clock_never_jumps(steps):
    watch, now = ClockWatch(), 0
    for pause, before, after in steps:
        asked = now + pause
        shown = asked + before
        now = shown + after
        assert watch.note(START_MS + shown, asked, now) is None


@given(st.integers(0, 300), st.integers(int(JUMP_MIN_MS) + 1_000, 10**9), st.sampled_from([1, -1]))
def test_a_jump_longer_than_the_answers_take_is_always_noticed(takes, jump, sign):
    watch = ClockWatch()
    watch.note(START_MS, 0, takes)
    told = watch.note(START_MS + 1_000 + sign * jump, 1_000, 1_000 + takes)
    assert told is not None
    assert abs(told - sign * jump) <= 2 * takes + 2
