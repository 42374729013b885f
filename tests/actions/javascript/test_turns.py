"""Workers for scripts are shared fairly between workflows."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from orchy.actions.javascript.turns import Turns
from orchy.errors import Overloaded


async def waiting(nursery: trio.Nursery, turns: Turns, workflow: str, order: list[str]) -> trio.CancelScope:
    """Start a task that acquires a place, notes it in `order`, and keeps it."""
    scope = trio.CancelScope()

    async def acquire() -> None:
        with scope:
            await turns.acquire(workflow)
            order.append(workflow)

    nursery.start_soon(acquire)
    await trio.testing.wait_all_tasks_blocked()
    return scope


async def test_workflows_take_turns_and_each_is_served_in_order(nursery: trio.Nursery) -> None:
    turns, order = Turns(1), list[str]()
    await turns.acquire("busy")
    for workflow in ["busy"] * 100 + ["b", "c", "b"]:
        await waiting(nursery, turns, workflow, order)
    for _ in range(103):
        turns.release()
        await trio.testing.wait_all_tasks_blocked()
    assert order == ["busy", "b", "c", "busy", "b"] + ["busy"] * 98
    turns.release()
    with trio.fail_after(1):
        await turns.acquire("b")  # the place is free again


async def test_one_workflow_may_use_all_places_while_no_other_waits(nursery: trio.Nursery) -> None:
    turns, order = Turns(3), list[str]()
    for _ in range(5):
        await waiting(nursery, turns, "busy", order)
    assert order == ["busy"] * 3
    nursery.cancel_scope.cancel()


async def test_a_cancelled_wait_takes_no_place(nursery: trio.Nursery) -> None:
    turns, order = Turns(1), list[str]()
    await turns.acquire("a")
    scopes = [await waiting(nursery, turns, workflow, order) for workflow in ("b", "c", "c")]
    scopes[0].cancel()
    scopes[1].cancel()
    await trio.testing.wait_all_tasks_blocked()
    turns.release()
    await trio.testing.wait_all_tasks_blocked()
    assert order == ["c"]


async def test_the_number_of_waiting_scripts_is_limited(nursery: trio.Nursery) -> None:
    turns, order = Turns(1, waiting_max=5, waiting_of_one_max=3), list[str]()
    await turns.acquire("busy")
    for _ in range(3):
        await waiting(nursery, turns, "busy", order)
    with pytest.raises(Overloaded, match="3 scripts of workflow 'busy' wait"):
        await turns.acquire("busy")
    for workflow in ("b", "c"):
        await waiting(nursery, turns, workflow, order)
    with pytest.raises(Overloaded, match="5 scripts wait"):
        await turns.acquire("d")
    turns.release()
    await trio.testing.wait_all_tasks_blocked()
    await waiting(nursery, turns, "d", order)
    nursery.cancel_scope.cancel()
