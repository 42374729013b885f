"""The checker accepts a good run, and names the broken rule when one thing in it is wrong."""

from __future__ import annotations

import attrs
import pytest

from tests.faults.checker import check
from tests.faults.observations import Line, Noted, Seen

T = 1_000.0
FLOW = "f1"


def line(at, kind, action=None, attempt=None, detail=None):
    return Line(T + at, kind, action, attempt, detail)


def worker(at, what, action, attempt=1, token="t"):
    return Noted(T + at, what, FLOW, {"action": action, "attempt": attempt, "token": f"{token}{action}", "meant": ""})


HISTORY = [
    line(0, "started"),
    line(0, "scheduled", 1, 1),
    line(0.1, "handedOut", 1, 1),
    line(0.2, "completed", 1, 1),
    line(0.2, "scheduled", 2, 1),
    line(1.75, "completed", 2, 1),
    line(1.75, "scheduled", 3, 1),
    line(1.8, "handedOut", 3, 1),
    line(1.9, "completed", 3, 1),
    line(1.9, "flowCompleted"),
]
WORKER = [
    worker(0.11, "received", 1),
    worker(0.19, "push", 1),
    worker(0.21, "pushed", 1),
    worker(1.81, "received", 3),
    worker(1.89, "push", 3),
    worker(1.91, "pushed", 3),
]
VIEW = {
    "state": "COMPLETED",
    "runningActions": [],
    "data": {"1": {"output": {"token": "t1"}}, "2": {"output": None}, "3": {"output": {"token": "t3"}}},
}
GOOD = Seen(
    client=[Noted(T, "start", FLOW, {"shape": "delay"}), Noted(T + 0.01, "accepted", FLOW, {})],
    workers=WORKER,
    flows={FLOW: VIEW},
    histories={FLOW: HISTORY},
    epochs=[{0: 1}, {0: 2}],
    leftovers=[],
    baseline=(T - 5, T),
    began=T,
    ended=T + 1,
    heal_from=T,
    delivery_seconds=1.0,
)


def history(*lines):
    return attrs.evolve(GOOD, histories={FLOW: sorted(lines, key=lambda one: one.at)})


def test_a_good_run_breaks_no_rule():
    verdict = check(GOOD)
    assert list(verdict.broken) == []
    assert (verdict.figures.accepted, verdict.figures.ended, verdict.figures.lost) == (1, 1, 0)
    assert verdict.figures.recorded_twice == 0


def test_an_attempt_that_was_given_back_may_be_handed_out_again():
    again = [line(0.05, "handedOut", 1, 1), line(0.07, "givenBack", 1, 1)]
    assert list(check(history(*HISTORY, *again)).broken) == []


BROKEN = {
    "an accepted flow is there": attrs.evolve(GOOD, flows={FLOW: None}, histories={}, workers=[]),
    "an accepted flow ends": attrs.evolve(
        GOOD, flows={FLOW: {**VIEW, "state": "RUNNING"}}, histories={FLOW: HISTORY[:6]}, workers=WORKER[:3]
    ),
    "a flow ends in time": history(*HISTORY[:-1], line(70, "flowCompleted")),
    "a flow ends as its workers say": attrs.evolve(GOOD, flows={FLOW: {**VIEW, "state": "FAILED"}}),
    "a history is in order": attrs.evolve(GOOD, histories={FLOW: [HISTORY[2], *HISTORY[:2], *HISTORY[3:]]}),
    "an attempt happens once": history(*HISTORY, line(0.15, "handedOut", 1, 1)),
    "an attempt ends once": history(*HISTORY, line(0.3, "timedOut", 1, 1)),
    "an action completes once": history(*HISTORY, line(0.3, "completed", 1, 2)),
    "nothing happens to a flow that is over": history(*HISTORY, line(2.5, "scheduled", 3, 2)),
    "what is reached runs": history(*HISTORY[:4], *HISTORY[6:]),
    "no timer is early": history(*HISTORY[:5], line(1.0, "completed", 2, 1), *HISTORY[6:]),
    "a timer belongs to something": history(*HISTORY[:4], *HISTORY[5:]),
    "what a worker gets was handed out": attrs.evolve(GOOD, workers=[*WORKER, worker(0.5, "received", 3, 2)]),
    "nothing is handed out of a flow that is over": attrs.evolve(GOOD, workers=[*WORKER, worker(4.0, "received", 3)]),
    "an attempt is handed out once": attrs.evolve(GOOD, workers=[*WORKER, worker(0.12, "received", 1)]),
    "a result is what a worker said": attrs.evolve(GOOD, workers=[*WORKER[:4], worker(1.89, "push", 3, token="x")]),
    "a result that was answered has ended its attempt": attrs.evolve(
        GOOD, workers=[*WORKER, worker(0.3, "pushed", 1, 7)]
    ),
    "epochs rise": attrs.evolve(GOOD, epochs=[{0: 2}, {0: 1}]),
    "nothing is left of flows that are over": attrs.evolve(GOOD, leftovers=["timer t:1:1:f1"]),
}


@pytest.mark.parametrize("rule", BROKEN)
def test_a_broken_rule_is_told(rule):
    broken = check(BROKEN[rule]).broken
    assert any(said.startswith(rule) for said in broken), broken


def test_a_second_completion_is_counted():
    assert check(BROKEN["an action completes once"]).figures.recorded_twice == 1


def test_what_the_store_itself_lost_is_counted_and_not_called_broken():
    seen = attrs.evolve(BROKEN["an accepted flow is there"], store_may_lose=True)
    verdict = check(seen)
    assert list(verdict.broken) == []
    assert verdict.figures.store_lost == 1


def gone_back(**changes):
    """The store lost all writes from T + 0.5 on."""
    return attrs.evolve(GOOD, store_may_lose=True, loses_from=T + 0.5, **changes)


def test_a_store_that_goes_back_may_lose_what_is_new_and_nothing_older():
    assert not check(gone_back()).broken
    lost = {"flows": {FLOW: None}, "histories": {}}
    assert any("what the store did not lose is there" in line for line in check(gone_back(**lost)).broken)
    late = [Noted(T + 0.4, "start", FLOW, {"shape": "delay"}), Noted(T + 0.6, "accepted", FLOW, {})]
    verdict = check(gone_back(**lost, client=late))
    assert (list(verdict.broken), verdict.figures.lost) == ([], 1)


def test_what_the_store_did_not_lose_goes_on_unless_its_client_was_told_of_what_is_lost():
    stuck = {
        "flows": {FLOW: {**VIEW, "state": "RUNNING"}},
        "histories": {FLOW: HISTORY[:-1]},
        "leftovers": [f"a timer of {FLOW}"],
    }
    broken = check(gone_back(**stuck)).broken
    assert len(broken) == 2, broken
    assert "what the store did not lose goes on" in broken[0]
    told = [*GOOD.client, Noted(T + 0.8, "eventAccepted", FLOW, {"answer": {}})]
    assert not check(gone_back(**stuck, client=told)).broken
