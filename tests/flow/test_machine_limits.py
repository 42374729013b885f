"""How much one flow may hold, and how it recognizes events that are sent again."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchy.actions import SYSTEM_ACTIONS
from orchy.errors import LimitReached, TooLarge
from orchy.flow import codec
from orchy.flow import effects as fx
from orchy.flow.definition import Action, ActionType, Workflow
from orchy.flow.draft import Changes, Rules
from orchy.flow.events import Cancel, Completed, EventReceived, Failed, Overgrown, Started
from orchy.flow.execution import Flow, KeptEvent, State
from orchy.flow.graph import Graph
from orchy.flow.limits import ERROR_CHARS_MAX, HISTORY_ENTRY_BYTES_MAX, RECENT_EVENTS_MAX, Limits, shortened
from orchy.flow.machine import Verdict, step
from orchy.flow.recent import CHUNK_IDS, CHUNKS_MAX, RecentEvents

FEW = Limits(kept_events_max=3, kept_event_bytes_max=100, kept_events_bytes_max=150, late_results_max=2)


class Store:
    """A flow that is stored after each step, by its changes only, and loaded again before the next."""

    def __init__(self, *actions, limits=FEW):
        self.graph = Graph.of(Workflow("w", actions[0].id, {action.id: action for action in actions}, version=1))
        self.rules = Rules(SYSTEM_ACTIONS, {}, limits=limits)
        made = step(self.graph, Flow("f", "w", 1, None), Started(), self.rules)
        self.fields = codec.encode_start(made.flow)
        self.written = {}
        self.effects = ()

    @property
    def flow(self):
        return codec.decode_flow("f", self.fields)

    def take(self, event):
        made = step(self.graph, self.flow, event, self.rules)
        self.effects = made.effects
        if made.effects:
            self.written, removed = codec.encode_changes(made.flow, made.changes)
            self.fields = {
                name: value for name, value in {**self.fields, **self.written}.items() if name not in removed
            }
            assert self.flow.kept_events == made.flow.kept_events
            assert self.flow.recent_events == made.flow.recent_events
            assert self.flow.late == made.flow.late
        return made.verdict


def user(id, *following):
    return Action(id, ActionType.USER, f"user{id}", next={"default": following} if following else {})


def wait(id, *following):
    return Action(id, ActionType.SYSTEM, "wait", next={"go": following}, settings={"event": "go"})


def test_kept_events_have_a_limit_in_count():
    drive = Store(user(1))
    for number in range(3):
        assert drive.take(EventReceived("go", None, str(number))) is Verdict.KEPT
    with pytest.raises(LimitReached, match="flow f keeps 3 events already"):
        drive.take(EventReceived("go", None, "one more"))
    assert drive.take(EventReceived("go", None, "2")) is Verdict.KEPT_BEFORE


def test_kept_events_have_limits_in_bytes():
    drive = Store(user(1))
    with pytest.raises(TooLarge, match="'go' is 103 bytes"):
        drive.take(EventReceived("go", "x" * 101, "a"))
    assert drive.take(EventReceived("go", "x" * 90, "a")) is Verdict.KEPT
    with pytest.raises(LimitReached, match="at most 150 bytes"):
        drive.take(EventReceived("go", "x" * 90, "b"))
    assert drive.take(EventReceived("go", "x", "b")) is Verdict.KEPT


def test_an_event_that_a_wait_takes_may_be_large():
    drive = Store(wait(1))
    assert drive.take(EventReceived("go", "x" * 1_000, "a")) is Verdict.APPLIED


def test_a_further_event_writes_itself_and_not_those_that_are_kept_already():
    drive = Store(user(1), limits=Limits())
    sizes = []
    for number in range(200):
        drive.take(EventReceived("go", "x" * 10_000, f"{number:016}"))
        sizes.append(sum(map(len, drive.written.values())))
    assert max(sizes) < 12_000
    assert [event.number for event in drive.flow.kept_events] == list(range(1, 201))


def test_a_wait_takes_the_oldest_kept_event_and_its_field_goes():
    drive = Store(user(1, 2), wait(2, 3), wait(3))
    for number in range(3):
        drive.take(EventReceived("go" if number else "other", number, str(number)))
    drive.take(Completed(1, 1, None))
    assert [drive.flow.finished[action_id].output for action_id in (2, 3)] == [1, 2]
    assert drive.flow.kept_events == (KeptEvent(1, "other", "0", b"0"),)
    assert {name for name in drive.fields if name.startswith("k:")} == {"k:1"}


def test_at_least_a_thousand_events_are_known_again():
    drive = Store(wait(1, 2), user(2), limits=Limits(kept_events_max=5_000))
    assert drive.take(EventReceived("go", 0, "first")) is Verdict.APPLIED
    for number in range(RECENT_EVENTS_MAX - 1):
        assert drive.take(EventReceived("go", number, str(number))) is Verdict.KEPT
    assert drive.take(EventReceived("other", None, "first")) is Verdict.DUPLICATE
    for number in range(RECENT_EVENTS_MAX - 1):
        assert drive.take(EventReceived("go", number, str(number))) is Verdict.KEPT_BEFORE
    for number in range(2 * CHUNK_IDS):
        drive.take(EventReceived("go", number, f"more {number}"))
    assert drive.take(EventReceived("go", 0, "first")) is Verdict.KEPT  # its id is no longer remembered
    assert sum(name.startswith("d:") for name in drive.fields) == CHUNKS_MAX


def test_events_are_known_again_after_the_end():
    drive = Store(wait(1))
    drive.take(EventReceived("go", 0, "a"))
    assert drive.flow.state is State.COMPLETED
    assert drive.take(EventReceived("go", 0, "a")) is Verdict.DUPLICATE
    assert drive.take(EventReceived("go", 0, "b")) is Verdict.REFUSED


@given(st.lists(st.text(max_size=3), max_size=300), st.integers(0, 50))
def test_recent_events_are_a_dictionary_that_forgets_the_oldest(ids, first):
    recent, model = RecentEvents(first), {}
    for number, event_id in enumerate(ids):
        if event_id in model:
            assert recent.get(event_id) is model[event_id]
            continue
        before, (recent, changed) = recent, recent.adding(event_id, number % 2 == 0)
        model[event_id] = number % 2 == 0
        for chunk in {*before.numbers(), *recent.numbers()}:
            assert (before.chunk(chunk) == recent.chunk(chunk)) == (chunk not in changed)
    assert all(recent.get(event_id) is taken for event_id, taken in model.items())
    assert recent.get("never") is None
    assert recent.chunk(first - 1) is None


def test_events_in_the_old_layout_are_read_and_taken_apart_by_the_next_step():
    drive = Store(user(1, 2), wait(2))
    kept = [["go", {"n": 1}, "a"], ["other", None, "b"]]
    drive.fields["e"] = json.dumps([kept, ["z", "a", "b"]]).encode()
    assert drive.flow.old_events
    assert [event.data for event in drive.flow.kept_events] == [{"n": 1}, None]
    assert drive.take(EventReceived("go", {"n": 1}, "a")) is Verdict.KEPT_BEFORE
    assert drive.take(EventReceived("go", 0, "z")) is Verdict.DUPLICATE
    assert "e" in drive.fields
    drive.take(Completed(1, 1, None))
    assert drive.flow.finished[2].output == {"n": 1}
    assert not drive.flow.old_events
    assert {name for name in drive.fields if name[0] in "ekd"} == {"k:2", "d:0"}


def test_events_of_both_layouts_are_put_together():
    drive = Store(user(1))
    drive.take(EventReceived("go", 1, "a"))
    drive.fields["e"] = json.dumps([[["go", 2, "b"]], ["b"]]).encode()
    assert [event.data for event in drive.flow.kept_events] == [1, 2]
    assert drive.take(EventReceived("go", 3, "c")) is Verdict.KEPT
    assert [event.number for event in drive.flow.kept_events] == [1, 2, 3]
    assert "e" not in drive.fields


def test_a_late_result_that_is_repeated_is_written_down_once():
    drive = Store(user(1, 2), user(2))
    drive.take(Completed(1, 1, None))
    for _ in range(3):
        assert drive.take(Failed(1, 1, "no")) is Verdict.LATE
        assert drive.take(Completed(1, 2, "other")) is Verdict.LATE
    assert drive.take(Failed(2, 7, "of no attempt")) is Verdict.LATE
    drive.take(Cancel())
    written = []
    for attempt in range(1, 50):
        assert drive.take(Completed(1, attempt, None)) in (Verdict.LATE, Verdict.DUPLICATE)
        written += drive.effects
    assert written == []  # the history has two late results of the action already
    assert drive.take(Failed(2, 1, "no")) is Verdict.LATE
    assert drive.effects == (fx.Record(fx.RecordType.LATE, 2, 1, "", "no"),)
    assert drive.flow.late == {1: (1, 2), 2: (7, 1)}


def test_a_flow_that_would_grow_too_large_fails():
    drive = Store(user(1, 2), user(2))
    drive.take(Completed(1, 1, None))
    assert drive.take(Overgrown(2, 1, "it is too large")) is Verdict.APPLIED
    assert drive.flow.state is State.FAILED
    assert drive.flow.error == "action 2 (user2) failed on attempt 1: it is too large"


def test_long_errors_are_cut():
    assert shortened("x" * ERROR_CHARS_MAX) == "x" * ERROR_CHARS_MAX
    drive = Store(user(1))
    drive.take(Failed(1, 1, "x" * 100_000))
    assert len(drive.flow.error) < ERROR_CHARS_MAX + 200
    assert drive.flow.error.endswith("x ... (cut, it has 100,000 characters)")


@given(
    st.one_of(
        st.text(), st.text("\x00\x1fä\U0001f600x", min_size=1).map(lambda text: text * 9_000), st.just(["a" * 9_000])
    ),
    st.sampled_from(["", "w", "w" * 9_000]),
)
def test_an_entry_of_the_history_has_a_limit(detail, worker):
    record = fx.Record(fx.RecordType.LATE, 2**31, 2**31, worker, detail)
    entry = codec.encode_record(record)
    assert len(entry) <= HISTORY_ENTRY_BYTES_MAX
    letter, action_id, attempt, _, read = codec.decode_record(entry)
    assert (letter, action_id, attempt) == ("L", 2**31, 2**31)
    if len(msgspec.json.encode(detail)) > HISTORY_ENTRY_BYTES_MAX:
        assert "(cut, it has" in read


def test_an_unknown_field_fails_an_assertion():
    with pytest.raises(AssertionError):
        codec.encode_changes(Flow("f", "w", 1, None), Changes(fields=frozenset({"y:1"})))
