"""The order in which members are probed: a shuffled round-robin (SWIM, section 4.3) that costs no shuffling.

A Fisher-Yates shuffle done one step at a time: the next member is drawn from those that had no turn in this round
and put in its place. So each one has one turn a round, whoever joins in the middle of a round is at a random place of
the rest of it, and who is gone is dropped when its turn comes.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence


class Order:
    """A list of names. `base` is shared and never changed; what differs from it is kept apart."""

    def __init__(self, base: Sequence[str] = ()) -> None:
        self._base = base
        self._size = len(base)
        self._moved: dict[int, str] = {}
        self._turn = 0

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, place: int) -> str:
        """The name at a place, 0 to len - 1; the order says nothing."""
        name = self._moved.get(place)
        return self._base[place] if name is None else name

    def append(self, name: str) -> None:
        """Has its first turn somewhere in the rest of this round."""
        self._moved[self._size] = name
        self._size += 1

    def remove_at(self, place: int) -> None:
        """Take out what stands there; the last one takes the place, and keeps its turn of this round."""
        last = self._size - 1
        if place < self._turn:  # its turn is over: fill the gap with another whose turn is over
            self._turn -= 1
            self._moved[place] = self[self._turn]
            place = self._turn
        self._moved[place] = self[last]
        self._moved.pop(last, None)
        self._size = last

    def next(self, keep: Callable[[str], bool], choose: random.Random) -> str | None:
        """Whose turn it is, of those to keep; the others are taken out as they are met. None: there is nobody."""
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
