"""A fair semaphore: scripts that wait for a worker take turns, workflow by workflow."""

from __future__ import annotations

from collections import OrderedDict, deque

import trio

from orchy.errors import Overloaded

#: How many scripts may wait, in all and of one workflow.
WAITING_MAX = 10_000
WAITING_OF_ONE_MAX = 2_000


class Turns:
    """A semaphore with `places`. However many scripts of a workflow wait, only its running ones delay other workflows.

    A free place goes to the longest waiting script of the workflow whose turn it is; then it is the next workflow's
    turn.
    """

    def __init__(
        self, places: int, waiting_max: int = WAITING_MAX, waiting_of_one_max: int = WAITING_OF_ONE_MAX
    ) -> None:
        self._free = places
        self._waiting_max = waiting_max
        self._waiting_of_one_max = waiting_of_one_max
        self._waiting = 0
        self._queues: OrderedDict[str, deque[trio.Event]] = OrderedDict()  # only those that are not empty

    async def acquire(self, workflow: str) -> None:
        """Take a place, until `release`. Raises Overloaded if too many wait already."""
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

    def release(self) -> None:
        """Give a place back."""
        if not self._queues:
            self._free += 1
            return
        workflow, queue = self._queues.popitem(last=False)
        queue.popleft().set()
        self._waiting -= 1
        if queue:
            self._queues[workflow] = queue  # behind the others
