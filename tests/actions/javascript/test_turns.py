"""Places for scripts are shared fairly between workflows."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from orchy.actions.javascript.turns import Turns
from orchy.errors import Overloaded


async def waiting(nursery: trio.Nursery, turns: Turns, workflow: str, order: list[str]) -> trio.CancelScope:
    """Somebody who takes a place, says so, and keeps it."""
    scope = trio.CancelScope()

    async def take() -> None:
        with scope:
            await turns.take(workflow)
            order.append(workflow)

    nursery.start_soon(take)
    await trio.testing.wait_all_tasks_blocked()
    return scope


async def test_workflows_take_turns_and_each_one_is_served_in_its_order(nursery: trio.Nursery) -> None:
    turns, order = Turns(1), list[str]()
    await turns.take("busy")
    for workflow in ["busy"] * 100 + ["b", "c", "b"]:
        await waiting(nursery, turns, workflow, order)
    for _ in range(103):
        turns.give_back()
        await trio.testing.wait_all_tasks_blocked()
    assert order == ["busy", "b", "c", "busy", "b"] + ["busy"] * 98
    turns.give_back()
    with trio.fail_after(1):
        await turns.take("b")  # it is free again


async def test_all_places_are_used_by_one_while_nobody_else_wants_them(nursery: trio.Nursery) -> None:
    turns, order = Turns(3), list[str]()
    for _ in range(5):
        await waiting(nursery, turns, "busy", order)
    assert order == ["busy"] * 3
    nursery.cancel_scope.cancel()


async def test_one_who_gives_up_waiting_takes_no_place(nursery: trio.Nursery) -> None:
    turns, order = Turns(1), list[str]()
    await turns.take("a")
    scopes = [await waiting(nursery, turns, workflow, order) for workflow in ("b", "c", "c")]
    scopes[0].cancel()
    scopes[1].cancel()
    await trio.testing.wait_all_tasks_blocked()
    turns.give_back()
    await trio.testing.wait_all_tasks_blocked()
    assert order == ["c"]


async def test_how_many_wait_has_limits(nursery: trio.Nursery) -> None:
    turns, order = Turns(1, waiting_max=5, waiting_of_one_max=3), list[str]()
    await turns.take("busy")
    for _ in range(3):
        await waiting(nursery, turns, "busy", order)
    with pytest.raises(Overloaded, match="3 scripts of workflow 'busy' wait"):
        await turns.take("busy")
    for workflow in ("b", "c"):
        await waiting(nursery, turns, workflow, order)
    with pytest.raises(Overloaded, match="5 scripts wait"):
        await turns.take("d")
    turns.give_back()
    await trio.testing.wait_all_tasks_blocked()
    await waiting(nursery, turns, "d", order)
    nursery.cancel_scope.cancel()
