"""A model of the store's queues, to check their order.

New attempts go to the end. Those that did not reach their worker go back to the front, in their order. Those that a
claim meets while their flow is paused are set aside, and go to the end when the flow is resumed. A claim hands out the
first attempts that are live.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence

from tests.simulation.books import require

Key = tuple[str, int, int]  # flow, action, attempt


class Queues:
    """`meaning` of an attempt is "live" (may be handed out), "paused" or "stale"."""

    def __init__(self, meaning: Callable[[Key], str]) -> None:
        self._meaning = meaning
        self._waiting: dict[tuple[int, str], deque[Key]] = {}
        self._aside: dict[str, list[tuple[int, str, Key]]] = {}

    def put(self, partition: int, name: str, key: Key) -> None:
        """Append an attempt."""
        self._waiting.setdefault((partition, name), deque()).append(key)

    def put_back(self, partition: int, name: str, keys: Sequence[Key]) -> None:
        """Put attempts back to the front, in their order."""
        self._waiting.setdefault((partition, name), deque()).extendleft(reversed(keys))

    def resume(self, flow_id: str) -> None:
        """Append what was set aside of a flow."""
        for partition, name, key in self._aside.pop(flow_id, ()):
            self.put(partition, name, key)

    def forget(self, flow_id: str) -> None:
        """Drop what was set aside of a flow."""
        self._aside.pop(flow_id, None)

    def hand_out(self, partition: int, name: str, keys: Iterable[Key], *, emptied: bool) -> None:
        """A claim handed out these attempts, in this order. Raises Violation."""
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
