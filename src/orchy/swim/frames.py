"""Frames on a stream: four bytes with the length, most significant first, then so many bytes."""

from __future__ import annotations

import ipaddress

import trio

LENGTH_BYTES = 4


class Budget:
    """How many bytes of frames that are not whole yet may be kept, of all streams together."""

    def __init__(self, bytes_max: int) -> None:
        self._left = bytes_max

    def take(self, count: int) -> bool:
        """Whether so many more may be kept."""
        if count > self._left:
            return False
        self._left -= count
        return True

    def give_back(self, count: int) -> None:
        """They are kept no longer."""
        self._left += count


async def write_frame(stream: trio.SocketStream, frame: bytes) -> None:
    """Send one. Raises BrokenResourceError."""
    await stream.send_all(len(frame).to_bytes(LENGTH_BYTES, "big") + frame)


async def read_frame(stream: trio.SocketStream, limit_bytes: int, budget: Budget) -> bytes | None:
    """A frame; None: the stream ended, the frame is larger than it may be, or the budget is used up.

    Raises BrokenResourceError.
    """
    data = bytearray()
    wanted = LENGTH_BYTES
    try:
        while len(data) < wanted:
            more = await stream.receive_some(min(65_536, wanted - len(data)))
            if not more or not budget.take(len(more)):
                return None
            data += more
            if wanted == LENGTH_BYTES == len(data):
                wanted += int.from_bytes(data, "big")
                if not LENGTH_BYTES < wanted <= LENGTH_BYTES + limit_bytes:
                    return None
        return bytes(memoryview(data)[LENGTH_BYTES:])
    finally:
        budget.give_back(len(data))


def is_near(stream: trio.SocketStream) -> bool:
    """Whether the peer is on this host: its address is of the loopback network."""
    try:
        address = ipaddress.ip_address(stream.socket.getpeername()[0].partition("%")[0])
    except (OSError, ValueError):
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
