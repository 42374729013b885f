"""News that wait to be passed on: with pings and acks as they go, and in gossip of their own.

Each piece is about one member and replaces what was said about it before. What was sent least goes first, and of
that the newest; after its number of sends a piece is dropped (SWIM, section 4.1).
"""

from __future__ import annotations

PACKET_MESSAGES_MAX = 255
#: No message is smaller than this: looking on would find nothing.
_SMALLEST_BYTES = 4


class Broadcasts:
    """A queue with one entry a member, by how often it was sent."""

    def __init__(self) -> None:
        self._by_sends: list[dict[str, bytes]] = []
        self._sends: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._sends)

    def put(self, name: str, message: bytes) -> None:
        """New about this member; what was said before is old."""
        self.discard(name)
        self._enter(name, message, 0)

    def discard(self, name: str) -> None:
        """Say nothing more about it."""
        sends = self._sends.pop(name, None)
        if sends is not None:
            del self._by_sends[sends][name]

    def waiting(self, name: str) -> bool:
        """Whether there still is something to be said about it."""
        return name in self._sends

    def take(self, room_bytes: int, sends_max: int) -> list[bytes]:
        """What goes into the next packet: as much as there is room for."""
        taken: list[tuple[str, bytes, int]] = []
        for sends, entries in enumerate(self._by_sends):
            for name in reversed(entries):
                message = entries[name]
                if len(message) <= room_bytes:
                    room_bytes -= len(message)
                    taken.append((name, message, sends))
                    if len(taken) == PACKET_MESSAGES_MAX:
                        break
            if room_bytes < _SMALLEST_BYTES or len(taken) == PACKET_MESSAGES_MAX:
                break
        for name, message, sends in reversed(taken):
            self.discard(name)
            if sends + 1 < sends_max:
                self._enter(name, message, sends + 1)
        return [message for _, message, _ in taken]

    def _enter(self, name: str, message: bytes, sends: int) -> None:
        while len(self._by_sends) <= sends:
            self._by_sends.append({})
        self._by_sends[sends][name] = message
        self._sends[name] = sends
