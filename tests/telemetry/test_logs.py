"""What a node logs has a bound, and says what it left out."""

from __future__ import annotations

import io
import logging

import pytest

from orchy.telemetry import logs
from orchy.telemetry.logs import LineLimit


@pytest.fixture
def shown():
    """What is written to a log that is limited to 3 lines and one each 10 seconds; `now` is its clock."""

    class Shown:
        now = 0.0

        def __init__(self):
            self.text = io.StringIO()
            self.log = logging.Logger("orchy.there")
            handler = logging.StreamHandler(self.text)
            handler.addFilter(LineLimit(3, 10.0, lambda: self.now))
            self.log.addHandler(handler)

        @property
        def lines(self):
            return self.text.getvalue().splitlines()

    return Shown()


def test_one_kind_of_line_has_a_bound_and_the_next_one_says_what_was_left_out(shown):
    def complain(who):
        shown.log.warning("%s is bad", who)

    for number in range(1_000):
        complain(number)
    assert shown.lines == ["0 is bad", "1 is bad", "2 is bad"]
    shown.now = 10.0
    complain("last")
    complain("too much")
    assert shown.lines[3:] == ["last is bad (997 more lines like this one were not logged)"]
    shown.now = 1_000.0
    for number in range(5):
        complain(number)
    assert shown.lines[4:] == ["0 is bad (1 more lines like this one were not logged)", "1 is bad", "2 is bad"]


def test_other_lines_are_not_held_back_nor_is_what_was_asked_for(shown):
    for _ in range(10):
        shown.log.warning("one")
        shown.log.warning("two")
        shown.log.debug("asked")
    assert [shown.lines.count(text) for text in ("one", "two", "asked")] == [3, 3, 10]


def test_texts_that_are_made_up_make_no_kinds(shown):
    for number in range(100):
        shown.log.warning(f"text {number}")
    assert len(shown.lines) == 3


def test_kinds_have_a_bound_too(shown, monkeypatch):
    monkeypatch.setattr(logs, "LINE_KINDS_MAX", 2)
    for number in range(5):
        shown.log.handle(shown.log.makeRecord("x", logging.INFO, f"{number}.py", 1, "at %d", (number,), None))
    assert shown.lines == [f"at {number}" for number in range(5)]
    for number in range(5, 100):
        shown.log.handle(shown.log.makeRecord("x", logging.INFO, f"{number}.py", 1, "at %d", (number,), None))
    assert len(shown.lines) == 5


def test_a_node_s_log_is_limited(capsys):
    logs.set_up("info", "text")
    try:
        for number in range(1_000):
            logging.getLogger("trio.serve_listeners").error("accept returned EMFILE %d", number)
    finally:
        logging.basicConfig(handlers=[], force=True)
        logging.getLogger("orchy").setLevel(logging.NOTSET)
    assert len(capsys.readouterr().err.splitlines()) <= logs.LINES_BURST + 5
