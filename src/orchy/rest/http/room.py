"""Who is connected and how much they have sent: what may be, and who must go for somebody else. Pure.

A connection counts from its acceptance to its end. Whoever has sent a whole request is being served and stays; all
others wait for their client, and may be closed for somebody else: first those that never sent a whole request, then
those that did, the oldest of each first. So a client that connects and asks is served whatever number of others
connects and does not. Bytes are treated in the same way: who keeps most of what is not a whole request yet goes first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Guest(Protocol):
    """A connection."""

    kept_bytes: int

    def evict(self) -> None:
        """End, for somebody else's sake. Not called for one that is being served."""
        ...


class Room:
    """`connections_max` is asked anew for each that comes."""

    def __init__(self, connections_max: Callable[[], int], bytes_max: int) -> None:
        self._connections_max = connections_max
        self._bytes_max = bytes_max
        self._here: set[Guest] = set()
        self._fresh: dict[Guest, None] = {}  # oldest first
        self._waiting: dict[Guest, None] = {}  # oldest first
        self.bytes_kept = 0

    @property
    def connections(self) -> int:
        """How many there are."""
        return len(self._here)

    def enter(self, guest: Guest) -> bool:
        """One has come; false: it can't stay, as all others are being served."""
        if len(self._here) >= self._connections_max() and not self.make_room():
            return False
        self._here.add(guest)
        self._fresh[guest] = None
        return True

    def make_room(self) -> bool:
        """Evict the one that waits for longest; false: none does."""
        for waiting in (self._fresh, self._waiting):
            for guest in waiting:
                self._evict(guest)
                return True
        return False

    def serve(self, guest: Guest) -> None:
        """It has sent a whole request."""
        self._fresh.pop(guest, None)
        self._waiting.pop(guest, None)

    def wait(self, guest: Guest) -> None:
        """It was answered, and may send another request."""
        self.release(guest)
        if guest in self._here:
            self._waiting[guest] = None

    def keep(self, guest: Guest, size_bytes: int) -> bool:
        """So much more is kept for it; false: there is no room for that."""
        if guest not in self._here:
            return False
        while self.bytes_kept + size_bytes > self._bytes_max:
            largest = max((*self._fresh, *self._waiting), key=lambda one: one.kept_bytes, default=guest)
            if largest.kept_bytes <= guest.kept_bytes:
                return False
            self._evict(largest)
        guest.kept_bytes += size_bytes
        self.bytes_kept += size_bytes
        return True

    def release(self, guest: Guest) -> None:
        """What was kept for it is not any more."""
        self.bytes_kept -= guest.kept_bytes
        guest.kept_bytes = 0

    def leave(self, guest: Guest) -> None:
        """It has ended. As often as one likes."""
        self.release(guest)
        self._here.discard(guest)
        self._fresh.pop(guest, None)
        self._waiting.pop(guest, None)

    def quiet(self) -> list[Guest]:
        """All that wait for their client."""
        return [*self._fresh, *self._waiting]

    def _evict(self, guest: Guest) -> None:
        self.leave(guest)
        guest.evict()


class Bucket:
    """At most `per_second` on average, and so many at once; 0: no limit."""

    def __init__(self, per_second: int) -> None:
        self._per_second = per_second
        self._left = float(per_second)
        self._at: float | None = None

    def take(self, now: float) -> bool:
        """One more; false: that is too many."""
        if not self._per_second:
            return True
        if self._at is not None:
            self._left = min(self._per_second, self._left + (now - self._at) * self._per_second)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
