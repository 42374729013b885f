"""Batches of calls, and concurrent calls whose results keep their order."""

from __future__ import annotations

import pytest
import trio

from orchy.runtime.batcher import Batcher
from orchy.runtime.gather import gather


async def test_requests_of_one_turn_share_a_call(autojump_clock):
    calls: list[list[int]] = []

    async def double(items):
        calls.append(list(items))
        await trio.sleep(1)
        return [2 * item for item in items]

    batcher, got = Batcher(double), {}

    async def want(item):
        got[item] = await batcher.do(item)

    async with trio.open_nursery() as nursery:
        for item in range(5):
            nursery.start_soon(want, item)
        await trio.sleep(0.5)
        nursery.start_soon(want, 5)  # the first call is under way
    assert [sorted(call) for call in calls] == [[0, 1, 2, 3, 4], [5]]
    assert got == {item: 2 * item for item in range(6)}


async def test_an_error_is_raised_for_its_item_only(autojump_clock):
    async def check(items):
        await trio.lowlevel.checkpoint()
        return [ValueError(item) if item % 2 else item for item in items]

    batcher, failed, good = Batcher(check), [], []

    async def want(item):
        try:
            good.append(await batcher.do(item))
        except ValueError as error:
            failed.append(error.args[0])

    async with trio.open_nursery() as nursery:
        for item in range(4):
            nursery.start_soon(want, item)
    assert (sorted(good), sorted(failed)) == ([0, 2], [1, 3])


async def test_when_the_call_fails_all_requests_fail(autojump_clock):
    async def fail(items):
        await trio.lowlevel.checkpoint()
        raise RuntimeError("broken")

    batcher, told = Batcher(fail), 0

    async def want(item):
        nonlocal told
        with pytest.raises(RuntimeError, match="broken"):
            await batcher.do(item)
        told += 1

    async with trio.open_nursery() as nursery:
        for item in range(3):
            nursery.start_soon(want, item)
    assert told == 3


async def test_a_cancelled_request_does_not_cancel_the_others(autojump_clock):
    async def slowly(items):
        await trio.sleep(1)
        return list(items)

    batcher, got = Batcher(slowly), []

    async def want(item, scope):
        with scope:
            got.append(await batcher.do(item))

    scopes = [trio.CancelScope() for _ in range(3)]
    async with trio.open_nursery() as nursery:
        for item, scope in enumerate(scopes):
            nursery.start_soon(want, item, scope)
        await trio.sleep(0.5)
        for scope in scopes[:2]:  # whichever of them made the call
            scope.cancel()
    assert 2 in got


async def test_results_keep_the_order_of_the_items(autojump_clock):
    async def wait(seconds):
        await trio.sleep(seconds)
        return seconds

    assert await gather(wait, [3, 1, 2]) == [3, 1, 2]
    assert await gather(wait, [3]) == [3]
    assert await gather(wait, []) == []
