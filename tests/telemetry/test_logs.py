"""The log has a limit for each kind of line, and says how many lines it left out."""

from __future__ import annotations

import io
import logging

import pytest

from orchy.telemetry import logs
from orchy.telemetry.logs import LineLimit, LogLimits
from orchy.telemetry.throttle import ThrottledWarnings


@pytest.fixture
def shown():
    """What is written to a log that is limited to 3 lines, then one every 10 seconds; `now` is its clock."""

    class Shown:
        now = 0.0

        def __init__(self):
            self.text = io.StringIO()
            self.log = logging.Logger("orchy.there")
            handler = logging.StreamHandler(self.text)
            handler.addFilter(LineLimit(LogLimits(3, 0.1, kinds_max=3), lambda: self.now))
            self.log.addHandler(handler)

        @property
        def lines(self):
            return self.text.getvalue().splitlines()

    return Shown()


def test_a_kind_of_line_is_limited_and_the_next_one_counts_those_left_out(shown):
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


def test_other_kinds_and_debug_lines_are_not_held_back(shown):
    for _ in range(10):
        shown.log.warning("one")
        shown.log.warning("two")
        shown.log.debug("asked")
    assert [shown.lines.count(text) for text in ("one", "two", "asked")] == [3, 3, 10]


def test_a_kind_is_a_call_whatever_its_text(shown):
    for number in range(100):
        shown.log.warning(f"text {number}")
    assert len(shown.lines) == 3


def test_beyond_the_bound_all_kinds_share_a_limit(shown):
    for number in range(6):
        shown.log.handle(shown.log.makeRecord("x", logging.INFO, f"{number}.py", 1, "at %d", (number,), None))
    assert shown.lines == [f"at {number}" for number in range(6)]
    for number in range(6, 100):
        shown.log.handle(shown.log.makeRecord("x", logging.INFO, f"{number}.py", 1, "at %d", (number,), None))
    assert len(shown.lines) == 6


def test_a_node_s_log_is_limited(capsys):
    logs.set_up("info", "text")
    try:
        for number in range(1_000):
            logging.getLogger("trio.serve_listeners").error("accept returned EMFILE %d", number)
    finally:
        logging.basicConfig(handlers=[], force=True)
        logging.getLogger("orchy").setLevel(logging.NOTSET)
    assert len(capsys.readouterr().err.splitlines()) <= LogLimits().lines_burst + 5


def test_a_warning_of_one_kind_comes_now_and_then(caplog):
    now = [0.0]
    warnings = ThrottledWarnings(logging.getLogger("orchy.there"), 60.0, 2, lambda: now[0])
    for at in (0, 59, 60, 61):
        now[0] = at
        warnings.warn("unanswered", "no answer at %d s", at)
        warnings.warn("refused", "refused at %d s", at)
    assert caplog.messages == [f"{kind} at {at} s" for at in (0, 60) for kind in ("no answer", "refused")]
    warnings.warn("third", "one more kind than are remembered")
    warnings.warn("refused", "once more")
    assert caplog.messages[4:] == ["one more kind than are remembered", "once more"]
