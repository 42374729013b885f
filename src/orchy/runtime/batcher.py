"""Tasks that share a call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

import attrs
import trio

_T = TypeVar("_T")
_R = TypeVar("_R")


@attrs.define(eq=False)
class _Wish:
    item: Any
    done: trio.Event = attrs.field(factory=trio.Event)
    outcome: Any = None


class Batcher(Generic[_T, _R]):
    """What tasks want in the same turn of the scheduler is done by one call, `do`, for all of them.

    The first one waits for the end of the turn and makes the call; it is not cancelled meanwhile, as the others would
    be left alone. What `do` gives for an item is that item's; an exception there is raised to the task that wanted it.
    """

    def __init__(self, do: Callable[[Sequence[_T]], Awaitable[Sequence[_R | Exception]]]) -> None:
        self._do = do
        self._wishes: list[_Wish] = []

    async def do(self, item: _T) -> _R:
        """What came of this item."""
        wish = _Wish(item)
        self._wishes.append(wish)
        if len(self._wishes) > 1:
            await wish.done.wait()
        else:
            with trio.CancelScope(shield=True):
                await trio.lowlevel.checkpoint()
                await self._do_all()
        if isinstance(wish.outcome, Exception):
            raise wish.outcome
        outcome: _R = wish.outcome
        return outcome

    async def _do_all(self) -> None:
        wishes, self._wishes = self._wishes, []
        try:
            outcomes: Sequence[Any] = await self._do([wish.item for wish in wishes])
        except Exception as error:
            outcomes = [error] * len(wishes)
        for wish, outcome in zip(wishes, outcomes, strict=True):
            wish.outcome = outcome
            wish.done.set()
