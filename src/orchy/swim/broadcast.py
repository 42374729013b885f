"""The queue of membership updates: piggybacked on pings and acks, and sent in gossip packets.

Each update is about one member and replaces the earlier one about it. The least sent go first, and of those the newest;
an update that was sent often enough is dropped (SWIM, section 4.1).
"""

from __future__ import annotations

PACKET_MESSAGES_MAX = 255
#: No message is smaller than this, so that a packet with less space left is full.
_SMALLEST_BYTES = 4


class Broadcasts:
    """One update a member, ordered by how often it was sent."""

    def __init__(self) -> None:
        self._by_sends: list[dict[str, bytes]] = []
        self._sends: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._sends)

    def put(self, name: str, message: bytes) -> None:
        """Queue an update about this member in place of an earlier one."""
        self.discard(name)
        self._enter(name, message, 0)

    def discard(self, name: str) -> None:
        """Drop what is queued about it."""
        sends = self._sends.pop(name, None)
        if sends is not None:
            del self._by_sends[sends][name]

    def waiting(self, name: str) -> bool:
        """Whether an update about it is still queued."""
        return name in self._sends

    def take(self, room_bytes: int, sends_max: int) -> list[bytes]:
        """Updates for the next packet, as many as fit into `room_bytes`."""
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
