"""Places for scripts, shared fairly: whoever waits for one gets it in turn with the others, workflow by workflow."""

from __future__ import annotations

from collections import OrderedDict, deque

import trio

from orchy.errors import Overloaded

#: How many scripts may wait for a place, and how many of them of one workflow.
WAITING_MAX = 10_000
WAITING_OF_ONE_MAX = 2_000


class Turns:
    """So many places. A workflow with a thousand slow scripts holds up another one by no more than those that run.

    When a place is free, the workflow whose turn it is gets it for the script of it that has waited for longest; then
    it is the next one's turn.
    """

    def __init__(
        self, places: int, waiting_max: int = WAITING_MAX, waiting_of_one_max: int = WAITING_OF_ONE_MAX
    ) -> None:
        self._free = places
        self._waiting_max = waiting_max
        self._waiting_of_one_max = waiting_of_one_max
        self._waiting = 0
        self._queues: OrderedDict[str, deque[trio.Event]] = OrderedDict()  # only those that are not empty

    async def take(self, workflow: str) -> None:
        """Have a place until `give_back`. Raises Overloaded when too many wait already."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._free:
            self._free -= 1
            return
        queue = self._queues.get(workflow, deque())
        if self._waiting >= self._waiting_max:
            raise Overloaded(f"{self._waiting_max} scripts wait for a javascript worker already")
        if len(queue) >= self._waiting_of_one_max:
            whose = f"scripts of workflow {workflow!r} wait for a javascript worker already"
            raise Overloaded(f"{self._waiting_of_one_max} {whose}")
        turn = trio.Event()
        self._queues.setdefault(workflow, queue).append(turn)
        self._waiting += 1
        try:
            await turn.wait()
        except trio.Cancelled:
            queue.remove(turn)
            self._waiting -= 1
            if not queue:
                del self._queues[workflow]
            raise

    def give_back(self) -> None:
        """Have it no more."""
        if not self._queues:
            self._free += 1
            return
        workflow, queue = self._queues.popitem(last=False)
        queue.popleft().set()
        self._waiting -= 1
        if queue:
            self._queues[workflow] = queue  # behind the others
