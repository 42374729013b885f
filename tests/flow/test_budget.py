"""Budgets: work over one is refused before it is done; work within one gives the same result as without."""

from __future__ import annotations

import resource

import jsonpath_ng.ext
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchy.actions import SYSTEM_ACTIONS
from orchy.flow import budget
from orchy.flow import effects as fx
from orchy.flow.budget import METER, SMALL_WORK_MAX, Meter, OverBudget, count_values, weight
from orchy.flow.definition import JSON, Action, ActionType, JoinMode, Workflow
from orchy.flow.draft import Rules
from orchy.flow.effects import RecordType
from orchy.flow.events import Pause, Resume, Started, TimerFired, TimerKind
from orchy.flow.execution import Flow, Phase, State
from orchy.flow.expressions.paths import compile_path
from orchy.flow.expressions.templates import FlowContext, compile_template
from orchy.flow.graph import Graph
from orchy.flow.machine import Step, step

RULES = Rules(SYSTEM_ACTIONS, {})


def nested(depth: int) -> JSON:
    value: JSON = 1
    for _ in range(depth):
        value = {"a": value}
    return value


HOSTILE = [
    ("$.input..*..*..*..*", nested(90), "visits"),
    ("$.input..*..*", list(range(60_000)), "visits"),
    ("$.input[*]", list(range(200_000)), "visits"),
    ("$.input.*", dict.fromkeys(map(str, range(200_000))), "visits"),
    ("$.input[0:100000]", list(range(200_000)), "visits"),
    ("$.input..a", [[]] * 200_000, "visits"),
    ("$.input.`keys`", dict.fromkeys(map(str, range(200_000))), "visits"),
    ("$.input[?(@ > 1)]", list(range(200_000)), "visits"),
    ("$.input[?(@ == $.input)]", [[1] * 300] * 300, "visits"),
    ("$.input.`sorted`", [[1] * 300] * 300, "visits"),
    ("$.input[\\`this`]", list(range(30_000)), "visits"),
    ("$.input[*].`str()`", ["x" * 100_000] * 300, "visits"),
    ("$.input.`split(a, *, -1)`", "a" * 100_000, "visits"),
    ("$.input[?(@ =~ '((a{0,30}){0,30}){0,1}b')]", ["a" * 100_000] * 20, "steps"),
    ("$.input.`sub(/(x.*y)|x/, z)`", "x" * 10_000, "steps"),
    ("$.input.`sub(/(x)/, \\\\1\\\\1\\\\1\\\\1\\\\1\\\\1\\\\1\\\\1\\\\1\\\\1)`", "x" * 1_000_000, "steps"),
    ("$.input.`sub(/(.*)/, " + "\\\\1" * 100 + ")`", "x" * 100_000, "bytes"),
    ("$.input" + "[" + ",".join(["0"] * 50) + "]" + ("[" + ",".join(["0"] * 50) + "]") * 3, nested(0), None),
    ("$.input" + ("[" + ",".join(["0"] * 50) + "]") * 4, [[[[1]]]], "visits"),
    ("$.input..[?(@..[?(@.a == $.input)])]", [[{"a": 1}] * 30] * 30, "visits"),
]


@pytest.mark.parametrize(("path", "document", "over"), HOSTILE)
def test_what_is_over_a_budget_is_refused_before_it_is_done(path: str, document: JSON, over: str | None) -> None:
    query = compile_path(path)
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if over is None:
        query.find(FlowContext(document, {}))
    else:
        with pytest.raises(OverBudget, match=over):
            query.find(FlowContext(document, {}))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 100_000


def test_the_error_names_the_expression_and_the_limit() -> None:
    with pytest.raises(OverBudget, match=r"the expression '\{\$\.input\.\.\*\.\.\*\}' visits more than 30,000 values"):
        compile_template({"a": "{$.input..*..*}"}).resolve(FlowContext(list(range(60_000)), {}))


@pytest.mark.parametrize(
    ("template", "document", "why"),
    [
        (["{$.input}"] * 1000, "x" * 100_000, "more than 4,194,304 bytes"),
        ("{$.input}" * 1000, "x" * 100_000, "more than 4,194,304 bytes"),
        ("{$.input}" * 1000, ["x" * 100_000], "more than 4,194,304 bytes"),
        ("x{$.input..*}", [[["x" * 2_000_000]]], "more than 4,194,304 bytes"),
        (["{$.input..*}"], [[["x" * 2_000_000]]], "more than 4,194,304 bytes"),
        (["{$.input}"], [0] * 100_001, "more than 100,000 values"),
        (["{$.input}"] * 30, [0] * 5_000, "more than 100,000 values"),
        (["{$.input}"], {"a": [{}] * 100_001}, "more than 100,000 values"),
        ([0] * 100_001, None, "more than 100,000 values"),
        (["{$.input}"] * 100_001, None, "more than 100,000 values"),
    ],
)
def test_a_result_has_a_size(template: JSON, document: JSON, why: str) -> None:
    with pytest.raises(OverBudget, match=why):
        compile_template(template).resolve(FlowContext(document, {}))


def test_each_action_has_a_budget_of_its_own() -> None:
    context = FlowContext(list(range(20_000)), {})
    template = compile_template("{$.input[*]}")
    for _ in range(3):
        assert len(template.resolve(context)[0]) == 20_000
    assert context.meter.exhausted
    assert context.meter.work > 3 * 20_000


def test_a_small_meter_stops_what_a_whole_one_allows_and_says_so() -> None:
    template = compile_template("{$.input[*]}")
    small = Meter(SMALL_WORK_MAX, bounds_actions=True)
    with pytest.raises(OverBudget):
        template.resolve(FlowContext([1] * 2 * SMALL_WORK_MAX, {}, small))
    assert small.exhausted
    plain = Meter(SMALL_WORK_MAX, bounds_actions=True)
    assert compile_template("{$.input}").resolve(FlowContext("x", {}, plain)) == ("x", ())
    assert not plain.exhausted


def test_what_is_refused_is_no_work() -> None:
    """Others wait for as long as a step works."""
    meter = Meter()
    for refused in (lambda: meter.visit(10**9), lambda: meter.match(10**6, 10**6), lambda: meter.write("x" * 10**7)):
        with pytest.raises(OverBudget):
            refused()
    assert meter.work < 1
    assert meter.exhausted


def test_values_and_steps_share_a_budget() -> None:
    meter = Meter()
    meter.visit(budget.VISITED_VALUES_MAX // 2)
    with pytest.raises(OverBudget, match="steps"):
        meter.match(budget.PATTERN_STEPS_MAX // 2, 1)


def test_counting_ends_where_it_is_enough() -> None:
    assert count_values([[1, {"a": None}], "x"], 100) == 5
    assert count_values([[[1] * 1_000_000] * 1_000_000], 10) > 10
    assert count_values([1] * 20, 10) == 11
    assert weight(["x" * 2560, 1], 100) == 13
    assert weight({"a": [1] * 50}, 10) > 10


@pytest.mark.parametrize(
    "path", ["$.input.`parent`.`parent`.`parent`", "$.input.`sub(/1/, 2)`", "$.input & $.input", "$.input[?(@ =~ 5)]"]
)
def test_whatever_the_library_raises_is_nothing_found(path: str) -> None:
    """It has assertions and raises exceptions of all kinds, none of which may end a node."""
    assert compile_path(path).find(FlowContext([1], {}))[1] is False or compile_path(path).many


def test_a_list_that_could_not_be_made_is_null_and_reported() -> None:
    context = FlowContext([1], {})
    assert compile_template("{$.input.`sorted`[*].`sub(/a/, b)`}").resolve(context)[0] is None
    assert compile_template("x{$.input.`sorted`[*].`sub(/a/, b)`}").resolve(context)[0] == "x"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["a", "b", "ab", "aab", ""]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=3),
    max_leaves=20,
)
_STEPS = [
    ".a", ".b", "[0]", "[-1]", "[*]", ".*", "[0:2]", "[::]", "[0,1]", "['a','b']", "..a", "..*", "..[0]",
    "[?(@.a > 1)]",
    "[?(@.a == $.input.a)]", "[?(@.a)]", "[?(@ =~ 'a+')]", "[?(@..a)]", "[?(@..[?(@.a == $.input.b)])]",
    "[?(@.a == 1 || @.b == 2 && @.a != null)]", "[?(!@.a)]", ".`len`", ".`keys`", ".`sorted`", "[\\a]", "[/a,\\b]",
    ".`parent`", ".`this`", ".`str()`", ".`path`", ".`sub(/(a)b?/, \\\\1c)`", ".`split(a, *, -1)`",
]  # fmt: skip


@given(st.lists(st.sampled_from(_STEPS), min_size=1, max_size=4), json_values)
def test_what_is_paid_for_is_what_the_library_finds(steps: list[str], document: JSON) -> None:
    text = "$.input" + "".join(steps)
    path = compile_path(text)
    whole = {"input": document}
    METER.set(Meter())  # the library's table of operators is global
    try:
        expected = [match.value for match in jsonpath_ng.ext.parse(text).find(whole)]
    except Exception:
        assert path.find(FlowContext(document, {})) in ((None, False), ([], False))
        return
    value, found = path.find(FlowContext(document, {}))
    if path.many:
        assert value == expected
    else:
        assert value == (expected[0] if expected else None)
        assert found is bool(expected)


# Many actions in one commit.


def graph(*actions: Action) -> Graph:
    return Graph.of(Workflow("w", actions[0].id, {action.id: action for action in actions}))


def wide(count: int, parameters: dict[str, JSON]) -> Graph:
    """A switch that leads to many user actions, which join again."""
    targets = tuple(range(2, count + 2))
    first = Action(1, ActionType.SYSTEM, "switch", {}, {"x": targets}, JoinMode.ALL, {"expression": "x"})
    return graph(first, *(Action(number, ActionType.USER, "a", parameters) for number in targets))


def begin(of: Graph, document: JSON) -> Step:
    return step(of, Flow("f", "w", 1, document), Started(), RULES)


def test_a_commit_that_has_evaluated_enough_postpones_the_rest() -> None:
    of = wide(10, {"x": "{$.input[*]}"})
    made = begin(of, list(range(10_000)))
    started = [effect for effect in made.effects if isinstance(effect, fx.Enqueue)]
    assert 1 <= len(started) < 10
    assert made.flow.state is State.RUNNING
    rounds = 0
    while any(running.phase is Phase.RETRY for running in made.flow.running.values()):
        postponed = [number for number, running in made.flow.running.items() if running.phase is Phase.RETRY]
        meter = Meter()
        for number in postponed:
            made = step(of, made.flow, TimerFired(TimerKind.RETRY, number, 1), RULES, meter=meter)
            started += [effect for effect in made.effects if isinstance(effect, fx.Enqueue)]
        rounds += 1
        assert rounds < 10
    assert sorted(effect.run_id for effect in started) == list(range(2, 12))
    assert all(effect.attempt == 1 for effect in started)


def test_a_postponed_action_is_due_at_once_and_in_the_history() -> None:
    made = begin(wide(10, {"x": "{$.input[*]}"}), list(range(20_000)))
    timers = [effect for effect in made.effects if isinstance(effect, fx.SetTimer)]
    records = [effect for effect in made.effects if isinstance(effect, fx.Record)]
    postponed = {effect.run_id for effect in records if effect.type is RecordType.POSTPONED}
    assert postponed
    assert {(timer.kind, timer.run_id, timer.after_seconds) for timer in timers} == {
        (TimerKind.RETRY, number, 0) for number in postponed
    }


def test_a_chain_of_switches_goes_on_with_the_next_commit() -> None:
    switch = "{$.input[?(@ > 5)]}x"
    chain = [
        Action(n, ActionType.SYSTEM, "switch", {}, {"default": (n + 1,)}, JoinMode.ALL, {"expression": switch})
        for n in range(1, 30)
    ]
    of = graph(*chain, Action(30, ActionType.USER, "a"))
    made = begin(of, list(range(2_000)))
    commits = 1
    while 30 not in made.flow.running:
        ((number, running),) = made.flow.running.items()
        assert running.phase is Phase.RETRY
        made = step(of, made.flow, TimerFired(TimerKind.RETRY, number, 1), RULES)
        commits += 1
    assert 2 < commits < 29


def test_a_resumption_postpones_too() -> None:
    of = wide(10, {"x": "{$.input[*]}"})
    paused = step(of, begin(of, list(range(10_000))).flow, Pause(), RULES)
    held = paused.flow
    for number in [n for n, running in held.running.items() if running.phase is Phase.RETRY]:
        held = step(of, held, TimerFired(TimerKind.RETRY, number, 1), RULES).flow
    resumed = step(of, held, Resume(), RULES).flow
    assert Phase.RETRY in {running.phase for running in resumed.running.values()}


@pytest.mark.parametrize(
    ("action", "why"),
    [
        (Action(1, ActionType.USER, "a", {"x": "{$.input..*..*}"}), "its parameters can't be made: the expression"),
        (
            Action(
                1, ActionType.SYSTEM, "switch", {}, {"default": ()}, JoinMode.ALL, {"expression": "{$.input..*..*}"}
            ),
            "the switch can't be decided: the expression",
        ),
    ],
)
def test_an_action_over_its_budget_fails_with_a_clear_error(action: Action, why: str) -> None:
    made = begin(graph(action), list(range(60_000)))
    assert made.flow.state is State.FAILED
    assert why in (made.flow.error or "")
    assert "visits more than 30,000 values" in (made.flow.error or "")


@pytest.mark.parametrize("path", ["$.input[*].a", "$.input[?(@.a > 0)]", "$.input[?(@.a > 0)].a", "$.input..a"])
def test_what_people_write_is_far_from_the_budget(path: str) -> None:
    value, found = compile_path(path).find(FlowContext([{"a": number + 1} for number in range(7_000)], {}))
    assert found
    assert len(value) == 7_000


@pytest.mark.parametrize("path", ["$.input.`sorted`", "$.input.`split(a, *, -1)`", "$.input[0:1]", "$.input.`keys`"])
@pytest.mark.parametrize("value", [1, "ab", None, True])
def test_a_node_that_meets_another_kind_of_value_costs_nothing_more(path: str, value: JSON) -> None:
    context = FlowContext(value, {})
    compile_path(path).find(context)
    assert context.meter.work < 10


def test_a_comparison_with_a_number_of_the_flow_costs_no_more_than_one_with_a_number() -> None:
    context = FlowContext([1, 2, 1], {})
    assert compile_path("$.input[?(@ == $.input[0])]").find(context) == ([1, 1], True)
    assert context.meter.work < 30
