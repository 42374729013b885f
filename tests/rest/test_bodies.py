"""How many values a body has is known before it is read, and texts with commas in them are not taken for values."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchy.rest.http.bodies import has_too_many_values

VALUES_MAX = 250_000


@pytest.mark.parametrize("part", [b"[],", b"{},", b"1,", b'"",', b'"a":1,', b"[[[", b'"\\\\",'])
def test_many(part):
    assert has_too_many_values(b"[" + part * (VALUES_MAX + 2) + b"1]", VALUES_MAX)


@pytest.mark.parametrize("text", ["a,b;[c]{d}\n" * 400_000, 'say "a", "b",\n' * 400_000, "\\," * 900_000])
def test_a_long_text_is_one_value(text):
    assert not has_too_many_values(json.dumps({"csv": text}).encode(), VALUES_MAX)


def test_as_many_as_may_be():
    assert not has_too_many_values(json.dumps([1] * VALUES_MAX).encode(), VALUES_MAX)
    assert has_too_many_values(json.dumps([1] * (VALUES_MAX + 1)).encode(), VALUES_MAX)


values = st.recursive(
    st.none() | st.integers() | st.text(st.sampled_from(',[{"\\a:'), max_size=20),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=3), inner, max_size=6),
    max_leaves=40,
)


@given(values)
def test_it_counts_values(value):
    def count(one):
        if not isinstance(one, list | dict):
            return 0
        return max(1, len(one)) + sum(map(count, one.values() if isinstance(one, dict) else one))

    assert has_too_many_values(json.dumps(value).encode(), 5) == (count(value) > 5)
