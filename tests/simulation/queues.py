"""What each queue holds, in order: a model beside the store's own queues.

What is put in goes to the end; what did not reach its worker comes back to the front, in its order; what is met with
in a pause is set aside, and goes to the end when its flow is resumed. What is handed out is always the first that may.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence

from tests.simulation.books import require

Key = tuple[str, int, int]  # flow, action, attempt


class Queues:
    """`meaning` says of an attempt: it may be handed out ("live"), waits for a resumption ("paused"), or is "stale"."""

    def __init__(self, meaning: Callable[[Key], str]) -> None:
        self._meaning = meaning
        self._waiting: dict[tuple[int, str], deque[Key]] = {}
        self._aside: dict[str, list[tuple[int, str, Key]]] = {}

    def put(self, partition: int, name: str, key: Key) -> None:
        """To the end."""
        self._waiting.setdefault((partition, name), deque()).append(key)

    def put_back(self, partition: int, name: str, keys: Sequence[Key]) -> None:
        """To the front, the first of them first."""
        self._waiting.setdefault((partition, name), deque()).extendleft(reversed(keys))

    def resume(self, flow_id: str) -> None:
        """What was set aside goes back."""
        for partition, name, key in self._aside.pop(flow_id, ()):
            self.put(partition, name, key)

    def forget(self, flow_id: str) -> None:
        """What was set aside is not wanted any more."""
        self._aside.pop(flow_id, None)

    def hand_out(self, partition: int, name: str, keys: Iterable[Key], *, emptied: bool) -> None:
        """A claim gave these, in this order. Raises Violation."""
        waiting = self._waiting.get((partition, name), deque())
        for key in keys:
            self._pass_over(partition, name, waiting)
            first = waiting.popleft() if waiting else None
            order = "attempts are handed out in the order in which they were put in"
            require(first == key, order, f"partition {partition}, {name}: {key}, not {first}")
        if emptied:
            self._pass_over(partition, name, waiting)
            where = f"partition {partition}, {name}: {list(waiting)}"
            require(not waiting, "a queue that is said to be empty is", where)

    def _pass_over(self, partition: int, name: str, waiting: deque[Key]) -> None:
        while waiting and (meaning := self._meaning(waiting[0])) != "live":
            key = waiting.popleft()
            if meaning == "paused":
                self._aside.setdefault(key[0], []).append((partition, name, key))
