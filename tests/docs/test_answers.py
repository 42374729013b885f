"""What counts as the answer that a page shows: a comparison that lets all pass would make every example pass."""

from __future__ import annotations

import pytest

from tests.docs.answers import Differs, Ids, compare

ONE, TWO = "b2e0f724-7bdb-4b85-b08d-62d228335359", "11111111-2222-3333-4444-555555555555"

SAME = [
    ('{"a": 1}', '{"a":1}'),
    ('{"a": 1, ...}', '{"b": 2, "a": 1}'),
    ('{"a": {...}}', '{"a": {"b": 2}}'),
    ('{"a": ...}', '{"a": [1, 2]}'),
    ('{"a": "..."}', '{"a": null}'),
    ("[...]", "[1, 2]"),
    ("[1, ..., 4]", "[1, 2, 3, 4]"),
    ('{"at": "2026-01-31T18:15:28.627Z"}', '{"at": "2027-02-01T00:00:00.000Z"}'),
    ('{"error": "no workflow ... \'helo\'"}', '{"error": "no workflow is named \'helo\'"}'),
    ("a\n...\nz", "a\nb\nc\nz\n"),
    ("a\n...\nz", "a\nz"),
    ("2026-01-31 18:15:28,627 info ready", "2027-02-01 00:00:00,000 info ready"),
    ("{not JSON", "{not JSON"),
]
OTHERS = [
    ('{"a": 1}', '{"a": 2}'),
    ('{"a": 1}', '{"a": true}'),
    ('{"a": 1}', '{"a": 1, "b": 2}'),
    ('{"a": 1, ...}', '{"b": 2}'),
    ('{"a": "x"}', '{"a": "y"}'),
    ("[1, 2]", "[1]"),
    ("[1, ..., 4]", "[1, 2, 3]"),
    ("[1, ..., 4]", "[4]"),
    ("[..., 4]", "[4, 3]"),
    ('{"at": "2026-01-31T18:15:28.627Z"}', '{"at": "soon"}'),
    ('{"a": 1}', "not JSON"),
    ("a\nz", "a\nb\nz"),
    ("a ... z", "a\nz"),
    ("a", ""),
    ("a.c", "abc"),
]


@pytest.mark.parametrize(("shown", "came"), SAME)
def test_the_same(shown, came):
    compare(shown, came, Ids())


@pytest.mark.parametrize(("shown", "came"), OTHERS)
def test_another_one(shown, came):
    with pytest.raises(Differs):
        compare(shown, came, Ids())


def test_an_id_that_was_shown_stands_for_the_one_that_came():
    ids = compare(f'{{"flowId": "{ONE}"}}', f'{{"flowId": "{TWO}"}}', Ids())
    assert ids.fill_in(f"curl localhost:8080/flow/{ONE}/history") == f"curl localhost:8080/flow/{TWO}/history"
    with pytest.raises(Differs, match="the page shows"):
        compare(f"flow {ONE} is over", f"flow {ONE} is over", ids)


def test_an_answer_that_differs_teaches_nothing():
    ids = Ids()
    with pytest.raises(Differs):
        compare(f'{{"id": "{ONE}", "z": 1}}', f'{{"id": "{TWO}", "z": 2}}', ids)
    assert ids == Ids()
