"""How the slots of one action are shared out to the servers that have a stream. Pure.

A server may hand out as many attempts as it has credit for, so a slot that stands idle is lent to one server or
another. Each server keeps a few, to be able to hand out at once what appears; the rest is with those that have work: a
slot that gets free goes to the server with the least credit, and one that has used up its credit gets what others hold
beyond their share. Where the slots are too few for all, the servers take turns.

What was handed out while its credit was taken back comes all the same: for a moment there are more attempts than slots.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Mapping
from types import MappingProxyType
from typing import Generic, TypeVar

#: The most credit that a server keeps while another one could use it.
SHARE_MAX = 4

S = TypeVar("S", bound=Hashable)


class Credits(Generic[S]):
    """The slots of one action. Each method answers how the servers' credit changes."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._running = 0
        self._credit: dict[S, int] = {}
        self._turns: deque[S] = deque()

    @property
    def credit(self) -> Mapping[S, int]:
        """What each server may hand out now."""
        return MappingProxyType(self._credit)

    @property
    def running(self) -> int:
        """How many attempts are being worked on."""
        return self._running

    @property
    def idle(self) -> int:
        """Slots that are neither lent nor in use."""
        return max(0, self._slots - self._running - sum(self._credit.values()))

    def join(self, server: S) -> dict[S, int]:
        """A server has a stream now."""
        self._credit[server] = 0
        self._turns.append(server)
        return self._lend() or self._feed(server, self._share)

    def leave(self, server: S) -> dict[S, int]:
        """And now it has none; nothing if it had none."""
        if self._credit.pop(server, None) is None:
            return {}
        self._turns.remove(server)
        return self._lend()

    def add_slot(self) -> dict[S, int]:
        """One more."""
        self._slots += 1
        return self._lend()

    def came(self, server: S) -> dict[S, int]:
        """It handed out an attempt."""
        self._running += 1
        left = self._credit.get(server)
        if left is None:
            return {}
        self._credit[server] = max(0, left - 1)
        return self._feed(server, self._slots) if left <= 1 and self._share else {}

    def freed(self) -> dict[S, int]:
        """An attempt is done with."""
        self._running -= 1
        return self._lend()

    def turn(self) -> dict[S, int]:
        """Time for one of those that have no credit, if others hold some and do not use it."""
        for _ in range(len(self._turns)):
            self._turns.rotate(-1)
            server = self._turns[-1]
            if not self._credit[server]:
                return self._feed(server, 1, keep=0)
        return {}

    @property
    def _share(self) -> int:
        """What a server keeps while another one could use it."""
        return min(SHARE_MAX, self._slots // (len(self._credit) + 1))

    def _lend(self) -> dict[S, int]:
        """Give what is idle to those who have least."""
        changes: dict[S, int] = {}
        for _ in range(self.idle if self._credit else 0):
            server = min(self._credit, key=self._credit.__getitem__)
            self._credit[server] += 1
            changes[server] = changes.get(server, 0) + 1
        return changes

    def _feed(self, server: S, wanted: int, keep: int | None = None) -> dict[S, int]:
        """Have others give a server what they hold beyond their share."""
        keep = self._share if keep is None else keep
        changes: dict[S, int] = {}
        for other in self._turns:
            given = min(wanted - changes.get(server, 0), self._credit[other] - keep)
            if other != server and given > 0:
                self._credit[other] -= given
                self._credit[server] += given
                changes[other] = -given
                changes[server] = changes.get(server, 0) + given
        return changes
