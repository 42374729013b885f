"""A token bucket allows bursts, and its rate on average."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchy.runtime.token_bucket import TokenBucket


def test_a_full_bucket_allows_a_burst_and_then_its_rate():
    bucket = TokenBucket(3, 0.5)
    assert [bucket.take(10.0) for _ in range(5)] == [True, True, True, False, False]
    assert [bucket.take(now) for now in (11.0, 12.0, 13.0, 14.0)] == [False, True, False, True]


def test_a_bucket_never_holds_more_than_a_burst():
    bucket = TokenBucket(2, 1.0)
    bucket.take(0.0)
    assert [bucket.take(1_000.0) for _ in range(3)] == [True, True, False]


@given(
    st.integers(1, 10),
    st.floats(0.1, 10),
    st.lists(st.floats(0, 5), max_size=100).map(sorted),
)
@pytest.mark.parametrize("seconds", [1.0, 3.0])
def test_no_span_of_time_sees_more_than_the_burst_and_the_rate(seconds, burst, per_second, times):
    bucket = TokenBucket(burst, per_second)
    taken = [now for now in times if bucket.take(now)]
    for first in taken:
        assert len([now for now in taken if first <= now <= first + seconds]) <= burst + per_second * seconds + 1e-6
