"""Admission control: which connections may stay, how much may be held in memory for them, how often they may ask. Pure.

A connection counts from its acceptance to its end. One that has sent a whole request is being served and is never
evicted; all others wait for their client, and may be evicted for another: first those that never sent a whole request,
then those that did, the oldest of each first. So a client that connects and asks is served however many others connect
and do not. Bytes are treated in the same way: the connection that holds most of an unfinished request goes first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Evictable(Protocol):
    """A connection."""

    held_bytes: int

    def evict(self) -> None:
        """End, to make room for another. Not called for one that is being served."""
        ...


class Admission:
    """`connections_max` is asked anew for each connection, as other parts of the process open files too."""

    def __init__(self, connections_max: Callable[[], int], bytes_max: int) -> None:
        self._connections_max = connections_max
        self._bytes_max = bytes_max
        self._open: set[Evictable] = set()
        self._new: dict[Evictable, None] = {}  # never served yet, the oldest first
        self._idle: dict[Evictable, None] = {}  # served before, the oldest first
        self.bytes_held = 0

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._open)

    def admit(self, connection: Evictable) -> bool:
        """Count a new connection; false if it can't stay, as all others are being served."""
        if len(self._open) >= self._connections_max() and not self.evict_one():
            return False
        self._open.add(connection)
        self._new[connection] = None
        return True

    def evict_one(self) -> bool:
        """Evict the connection that waits for longest; false if none waits."""
        for waiting in (self._new, self._idle):
            for connection in waiting:
                self._evict(connection)
                return True
        return False

    def start_serving(self, connection: Evictable) -> None:
        """It has sent a whole request."""
        self._new.pop(connection, None)
        self._idle.pop(connection, None)

    def start_waiting(self, connection: Evictable) -> None:
        """It was answered, and may send another request."""
        self.release_bytes(connection)
        if connection in self._open:
            self._idle[connection] = None

    def hold_bytes(self, connection: Evictable, size_bytes: int) -> bool:
        """Hold so much more for it; false if there is no room for that."""
        if connection not in self._open:
            return False
        while self.bytes_held + size_bytes > self._bytes_max:
            largest = max((*self._new, *self._idle), key=lambda one: one.held_bytes, default=connection)
            if largest.held_bytes <= connection.held_bytes:
                return False
            self._evict(largest)
        connection.held_bytes += size_bytes
        self.bytes_held += size_bytes
        return True

    def release_bytes(self, connection: Evictable) -> None:
        """Nothing is held for it any more."""
        self.bytes_held -= connection.held_bytes
        connection.held_bytes = 0

    def remove(self, connection: Evictable) -> None:
        """It has ended. May be called more than once."""
        self.release_bytes(connection)
        self._open.discard(connection)
        self._new.pop(connection, None)
        self._idle.pop(connection, None)

    def _evict(self, connection: Evictable) -> None:
        self.remove(connection)
        connection.evict()
