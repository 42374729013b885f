"""How the slots of one action are shared among the servers that have a stream. Pure.

A server may hand out as many attempts as it has credit for, so a slot that stands idle is lent to one server or
another. Each server keeps a few, to be able to hand out at once what appears; the rest is with those that have work: a
slot that gets free goes to the server with the least credit (of several, to those that use theirs, one after the
other), and one that has used up its credit gets what others hold beyond their share.

Where the slots are too few for all, the servers take turns: the one whose turn it is gets a slot, or the promise of the
next free one; if it has no use for it, the slot goes back to those that have (`turn`, `end_turn`).

What was handed out while its credit was taken back comes all the same. Credit is then below 0, here and at the server,
and for a moment there are more attempts than slots.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Mapping
from itertools import count
from types import MappingProxyType
from typing import Generic, TypeVar

#: The most credit that a server keeps while another one could use it.
SHARE_MAX = 4

S = TypeVar("S", bound=Hashable)


class Credits(Generic[S]):
    """The slots of one action. Each method answers how the servers' credit changes.

    While there is a server, what is lent and what is worked on are together as many as there are slots.
    """

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._running = 0
        self._credit: dict[S, int] = {}
        self._turns: deque[S] = deque()
        self._lent = count()
        self._lent_at: dict[S, int] = {}
        self._busy: set[S] = set()  # those that used what they had when they had some
        self._used: set[S] = set()  # since the last turn
        self._asked: dict[S, bool] = {}  # those that got a slot because it was their turn; whether that is a moment ago
        self._promised: S | None = None

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

    @property
    def asking(self) -> bool:
        """Whether a server has its turn, or will have it with the next slot."""
        return bool(self._asked) or self._promised is not None

    def join(self, server: S) -> dict[S, int]:
        """A server has a stream now."""
        self._credit[server] = 0
        self._lent_at[server] = -1
        self._turns.append(server)
        return self._lend() or self._feed(server, self._share)

    def leave(self, server: S) -> dict[S, int]:
        """And now it has none; nothing if it had none."""
        if self._credit.pop(server, None) is None:
            return {}
        self._turns.remove(server)
        del self._lent_at[server]
        self._busy.discard(server)
        self._used.discard(server)
        self._asked.pop(server, None)
        if self._promised == server:
            self._promised = None
        return self._lend()

    def add_slot(self) -> dict[S, int]:
        """One more."""
        self._slots += 1
        return self._lend()

    def came(self, server: S) -> dict[S, int]:
        """It handed out an attempt."""
        self._running += 1
        if server not in self._credit:
            return {}
        self._credit[server] -= 1
        self._busy.add(server)
        self._used.add(server)
        return self._feed(server, self._slots) if self._credit[server] <= 0 and self._share else {}

    def freed(self) -> dict[S, int]:
        """An attempt is done with."""
        self._running -= 1
        return self._lend()

    def turn(self) -> dict[S, int]:
        """Time for one of those that have no credit; call `end_turn` a moment later, and again while `asking`."""
        self._busy -= {server for server, credit in self._credit.items() if credit > 0} - self._used
        self._used.clear()
        for _ in range(len(self._turns)):
            self._turns.rotate(-1)
            server = self._turns[-1]
            if self._credit[server] <= 0:
                changes = self._feed(server, 1, keep=min(1, self._share))
                if changes:
                    self._asked[server] = True
                else:
                    self._promised = server
                return changes
        return {}

    def end_turn(self) -> dict[S, int]:
        """A slot that was not used goes back to those that could use it."""
        changes: dict[S, int] = {}
        for server, had_its_time in list(self._asked.items()):
            if self._credit[server] <= 0:  # it was used, or taken back
                del self._asked[server]
            elif not had_its_time:
                self._asked[server] = True
            else:
                del self._asked[server]
                self._busy.discard(server)
                wanting = [other for other in self._turns if other in self._busy and self._credit[other] <= 0]
                if wanting:
                    self._move(server, min(wanting, key=self._lent_at.__getitem__), changes)
        return changes

    @property
    def _share(self) -> int:
        """What a server keeps while another one could use it."""
        return min(SHARE_MAX, self._slots // (len(self._credit) + 1))

    def _lend(self) -> dict[S, int]:
        """Give what is idle: first what was promised, then to those who have least."""
        changes: dict[S, int] = {}
        for _ in range(self.idle if self._credit else 0):
            if self._promised is not None:
                server, self._promised = self._promised, None
                self._asked[server] = False
            else:
                server = min(self._credit, key=self._need)
            self._give(server, changes)
        return changes

    def _need(self, server: S) -> tuple[int, bool, int]:
        return self._credit[server], server not in self._busy, self._lent_at[server]

    def _feed(self, server: S, wanted: int, keep: int | None = None) -> dict[S, int]:
        """Have others give a server what they hold beyond their share."""
        keep = self._share if keep is None else keep
        changes: dict[S, int] = {}
        for other in self._turns:
            while other != server and wanted and self._credit[other] > keep:
                self._move(other, server, changes)
                wanted -= 1
        return changes

    def _move(self, giver: S, taker: S, changes: dict[S, int]) -> None:
        self._credit[giver] -= 1
        changes[giver] = changes.get(giver, 0) - 1
        self._give(taker, changes)

    def _give(self, taker: S, changes: dict[S, int]) -> None:
        self._credit[taker] += 1
        changes[taker] = changes.get(taker, 0) + 1
        self._lent_at[taker] = next(self._lent)
