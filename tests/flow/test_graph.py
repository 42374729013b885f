"""Where branches meet: dead-path elimination, against a model that looks at the whole graph each time."""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchy.flow.definition import Action, ActionType, JoinMode, Workflow
from orchy.flow.execution import Finished, Join
from orchy.flow.expressions.templates import FlowContext
from orchy.flow.graph import Graph

Next = dict[str, tuple[int, ...]]


def graph(edges: dict[int, Next], any_joins: tuple[int, ...] = (), root: int = 1) -> Graph:
    targets = [t for out in edges.values() for ts in out.values() for t in ts]
    actions = {
        number: Action(
            number,
            ActionType.USER,
            "a",
            next=edges.get(number, {}),
            join=JoinMode.ANY if number in any_joins else JoinMode.ALL,
        )
        for number in dict.fromkeys([*edges, *targets])
    }
    return Graph.of(Workflow("w", root, actions))


@attrs.define
class Walk:
    """A flow's joins, kept as the machine keeps them."""

    graph: Graph
    joins: dict[int, Join] = attrs.field(factory=dict)

    def take(self, action_id: int, outcome: str = "default") -> list[int]:
        started, changed = self.graph.settle(self.joins, action_id, outcome)
        for number, join in changed.items():
            if join is None:
                del self.joins[number]  # raises if `settle` removes a join that did not exist
            else:
                self.joins[number] = join
        return started


def test_edges_are_those_of_the_outcome() -> None:
    g = graph({1: {"a": (2, 3), "b": (3,)}})
    assert g.edges(1, "a") == (2, 3)
    assert g.edges(1, "nope") == ()
    assert g.edges(2, "default") == ()


def test_an_edge_is_source_outcome_target_and_the_root_has_one_from_the_start() -> None:
    g = graph({1: {"a": (2, 3), "b": (3,)}, 2: {"default": (3,)}})
    assert [g.incoming(number) for number in (1, 2, 3)] == [1, 1, 3]


def test_an_action_with_one_edge_needs_no_join() -> None:
    walk = Walk(graph({1: {"default": (2,)}, 2: {"default": (3,)}}))
    assert walk.take(1) == [2]
    assert walk.take(2) == [3]
    assert walk.take(3) == []
    assert walk.joins == {}


def test_a_fork_starts_in_the_order_of_the_definition() -> None:
    g = graph({1: {"default": (9, 4)}, 4: {}, 7: {}, 9: {}, 8: {"default": (7,)}})
    assert Walk(g).take(1) == [4, 9]


def test_all_waits_for_each_branch() -> None:
    walk = Walk(graph({1: {"default": (2, 3)}, 2: {"default": (4,)}, 3: {"default": (4,)}}))
    assert walk.take(1) == [2, 3]
    assert walk.take(3) == []
    assert walk.joins == {4: Join(taken=1)}
    assert walk.take(2) == [4]
    assert walk.joins == {}


def test_a_branch_that_was_not_chosen_is_dead_and_spreads_to_where_it_meets_a_live_one() -> None:
    walk = Walk(graph({1: {"a": (2,), "b": (3,)}, 2: {"default": (5,)}, 3: {"default": (4,)}, 4: {"default": (5,)}}))
    assert walk.take(1, "a") == [2]
    assert walk.joins == {5: Join(dead=1)}
    assert walk.take(2) == [5]
    assert walk.joins == {}


def test_an_outcome_without_edges_kills_all_that_follows() -> None:
    walk = Walk(graph({1: {"a": (2,), "b": (3,)}, 2: {"default": (4,)}, 3: {"default": (4,)}}))
    assert walk.take(1, "neither") == []
    assert walk.joins == {}


def test_a_live_edge_that_comes_after_a_dead_one_in_the_same_step_starts_the_join() -> None:
    walk = Walk(graph({1: {"a": (2,), "b": (2,)}}))
    assert walk.take(1, "b") == [2]
    assert walk.joins == {}


def test_any_starts_on_the_first_arrival_and_absorbs_the_rest() -> None:
    edges: dict[int, Next] = {1: {"default": (2, 3, 4)}, **{number: {"default": (5,)} for number in (2, 3, 4)}}
    walk = Walk(graph(edges, any_joins=(5,)))
    walk.take(1)
    assert walk.take(2) == [5]
    assert walk.joins == {5: Join(taken=1)}
    assert walk.take(3) == []
    assert walk.take(4) == []
    assert walk.joins == {}


def test_any_that_started_is_not_dead_when_its_other_edges_die() -> None:
    walk = Walk(
        graph({1: {"default": (2, 3)}, 2: {"default": (4,)}, 3: {"a": (4,), "b": ()}, 4: {"default": (5,)}}, (4,))
    )
    walk.take(1)
    assert walk.take(2) == [4]
    assert walk.take(3, "b") == []
    assert walk.joins == {}
    assert walk.take(4) == [5]


def test_any_is_dead_when_all_its_edges_are() -> None:
    edges: dict[int, Next] = {
        1: {"a": (2, 3), "b": (6,)},
        2: {"default": (4,)},
        3: {"default": (4,)},
        4: {"default": (6,)},
    }
    walk = Walk(graph(edges, any_joins=(4,)))
    assert walk.take(1, "b") == [6]
    assert walk.joins == {}


def test_any_starts_once_when_one_outcome_leads_to_it_twice_over() -> None:
    walk = Walk(graph({1: {"default": (2, 3)}, 2: {"default": (4,), "x": (4,)}, 3: {"default": (4,)}}, any_joins=(4,)))
    walk.take(1)
    assert walk.take(2) == [4]
    assert walk.joins == {4: Join(taken=1, dead=1)}
    assert walk.take(3) == []
    assert walk.joins == {}


def test_a_dead_chain_of_ten_thousand_dies_in_one_step_without_recursion() -> None:
    length = 10_000
    edges: dict[int, Next] = {1: {"a": (2,), "b": (length + 1,)}}
    edges |= {number: {"default": (number + 1,)} for number in range(2, length + 1)}
    walk = Walk(graph(edges))
    assert walk.take(1, "b") == [length + 1]
    assert walk.joins == {}


class CountedJoins(dict[int, Join]):
    """Joins that count lookups and can't be iterated over."""

    looks = 0

    def get(self, key: int, default: Join | None = None) -> Join | None:  # type: ignore[override]
        self.looks += 1
        return super().get(key, default)

    def __iter__(self) -> Iterator[int]:
        raise AssertionError("settle must not walk through all joins")


def test_a_step_costs_as_much_as_it_settles_whatever_the_size_of_graph_and_joins() -> None:
    width = 2_000
    edges: dict[int, Next] = {1: {"default": tuple(range(2, width + 2))}}
    edges |= {number: {"default": (number + width, width * 3)} for number in range(2, width + 2)}
    joins = CountedJoins({number: Join(taken=1) for number in range(100_000, 102_000)} | {width * 3: Join(taken=5)})
    started, changed = graph(edges).settle(joins, 7, "default")
    assert started == [7 + width]
    assert changed == {width * 3: Join(taken=6)}
    assert joins.looks == 2


def test_settling_an_edge_twice_fails_an_assertion() -> None:
    with pytest.raises(AssertionError, match="twice"):
        graph({1: {"default": (2,)}}).settle({2: Join(taken=1)}, 1, "default")


def test_parameters_are_compiled_with_the_graph() -> None:
    action = Action(1, ActionType.USER, "a", parameters={"x": "{$.input}", "y": "{$.9.output}"})
    template = Graph.of(Workflow("w", 1, {1: action})).parameters(1)
    assert template.resolve(FlowContext(5, {1: Finished(1, None)})) == ({"x": 5, "y": None}, ("{$.9.output}",))


# Against a model.


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Up to 9 actions, edges from lower to higher ids, each reachable from 1."""
    count = draw(st.integers(1, 9))
    edges: dict[int, dict[str, list[int]]] = {number: {} for number in range(1, count + 1)}
    for target in range(2, count + 1):
        sources = draw(st.lists(st.integers(1, target - 1), min_size=1, max_size=3, unique=True))
        for source in sources:
            for outcome in draw(st.lists(st.sampled_from("abc"), min_size=1, max_size=2, unique=True)):
                edges[source].setdefault(outcome, []).append(target)
    any_joins = tuple(draw(st.sets(st.integers(1, count))))
    return graph({number: {o: tuple(ts) for o, ts in out.items()} for number, out in edges.items()}, any_joins)


def model(graph: Graph, taken: dict[int, str]) -> tuple[set[int], set[int]]:
    """What has to have started, and what is dead, when exactly the actions in `taken` have finished."""
    started, dead = {1}, set[int]()
    while True:
        before = len(started) + len(dead)
        for number, action in graph.workflow.actions.items():
            if number == 1:
                continue
            edges = [
                "dead"
                if source in dead or (source in taken and taken[source] != outcome)
                else "taken"
                if source in taken
                else "open"
                for source, other in graph.workflow.actions.items()
                for outcome, targets in other.next.items()
                if number in targets
            ]
            if set(edges) == {"dead"}:
                dead.add(number)
            elif "taken" in edges and (action.join is JoinMode.ANY or "open" not in edges):
                started.add(number)
        if len(started) + len(dead) == before:
            return started, dead


@given(graphs(), st.randoms(use_true_random=False))
def test_whatever_the_order_each_action_starts_exactly_when_the_model_says(graph: Graph, chance: object) -> None:
    walk = Walk(graph)
    running, started, taken = [1], {1}, dict[int, str]()
    while running:
        number = running.pop(chance.randrange(len(running)))  # type: ignore[attr-defined]
        taken[number] = chance.choice("abcd")  # type: ignore[attr-defined]
        reached = walk.take(number, taken[number])
        assert not started & set(reached), "an action started twice"
        assert reached == sorted(reached, key=list(graph.workflow.actions).index)
        started |= set(reached)
        running += reached
        must_have_started, dead = model(graph, taken)
        assert started == must_have_started
        for joined, join in walk.joins.items():
            assert 0 < join.taken + join.dead < graph.incoming(joined)
            assert joined not in dead
    assert walk.joins == {}, "with nothing running every edge is settled"
    assert started | model(graph, taken)[1] == set(graph.workflow.actions), "an action is neither run nor dead"
