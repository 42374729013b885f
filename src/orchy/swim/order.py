"""The order in which members are probed: a shuffled round-robin (SWIM, section 4.3) that costs no shuffling.

A Fisher-Yates shuffle done one step at a time: the next member is drawn from those that had no turn in this round and
moved to the present position. So each member has one turn a round; one that joins in the middle of a round is probed at
a random point of the rest of it, and one that is gone is dropped when its turn comes.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence


class Order:
    """A list of names. `base` is shared and never changed; differences from it are stored apart."""

    def __init__(self, base: Sequence[str] = ()) -> None:
        self._base = base
        self._size = len(base)
        self._moved: dict[int, str] = {}
        self._turn = 0

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, place: int) -> str:
        """The name at an index, 0 to len - 1; the order has no meaning."""
        name = self._moved.get(place)
        return self._base[place] if name is None else name

    def append(self, name: str) -> None:
        """Add a name; its first turn is somewhere in the rest of this round."""
        self._moved[self._size] = name
        self._size += 1

    def remove_at(self, place: int) -> None:
        """Remove the name at an index; the last one moves there, and keeps its turn of this round."""
        last = self._size - 1
        if place < self._turn:  # it had its turn: fill the gap with another that had its turn
            self._turn -= 1
            self._moved[place] = self[self._turn]
            place = self._turn
        self._moved[place] = self[last]
        self._moved.pop(last, None)
        self._size = last

    def next(self, keep: Callable[[str], bool], choose: random.Random) -> str | None:
        """The next name to keep; others are removed on the way. None if the list is empty."""
        for _ in range(self._size + 1):
            if not self._size:
                return None
            if self._turn >= self._size:
                self._turn = 0
            place = self._turn + int(choose.random() * (self._size - self._turn))
            name = self[place]
            if not keep(name):
                self.remove_at(place)
                continue
            if place != self._turn:
                self._moved[place] = self[self._turn]
                self._moved[self._turn] = name
            self._turn += 1
            return name
        return None
