"""Frames on a stream: a length of four bytes, most significant first, then as many bytes."""

from __future__ import annotations

import ipaddress

import trio

LENGTH_BYTES = 4
#: The first bytes of HTTP clients, among them workers at the wrong port. No frame has such a length.
HTTP_BEGINNINGS = frozenset({b"PRI ", b"GET ", b"HEAD", b"POST", b"PUT ", b"DELE", b"OPTI"})
#: The answer to them; it reveals nothing about the cluster.
_WRONG_PORT = b"this is Orchy's gossip port: workers connect to --grpc-port, REST is at --http-port\n"
_HTTP_ANSWER = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b"
    % (len(_WRONG_PORT), _WRONG_PORT)
)
#: The client may still be sending; closing with unread bytes would reset the connection and lose the answer.
_LINGER_SECONDS = 1.0


class Budget:
    """The bytes that incomplete frames of all streams may take together."""

    def __init__(self, bytes_max: int) -> None:
        self._left = bytes_max

    def take(self, count: int) -> bool:
        """Reserve so many more; False, and nothing reserved, if that is too many."""
        if count > self._left:
            return False
        self._left -= count
        return True

    def give_back(self, count: int) -> None:
        """Release so many."""
        self._left += count


async def write_frame(stream: trio.SocketStream, frame: bytes) -> None:
    """Send one frame. Raises BrokenResourceError."""
    await stream.send_all(len(frame).to_bytes(LENGTH_BYTES, "big") + frame)


async def read_frame(stream: trio.SocketStream, limit_bytes: int, budget: Budget) -> bytes | None:
    """A frame; None if the stream ended, the frame is too large, or the budget is used up.

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
                    if bytes(data) in HTTP_BEGINNINGS:
                        await _answer_http(stream)
                    return None
        return bytes(memoryview(data)[LENGTH_BYTES:])
    finally:
        budget.give_back(len(data))


async def _answer_http(stream: trio.SocketStream) -> None:
    await stream.send_all(_HTTP_ANSWER)
    await stream.send_eof()
    with trio.move_on_after(_LINGER_SECONDS):
        while await stream.receive_some(65_536):
            pass


def is_local(stream: trio.SocketStream) -> bool:
    """Whether the peer is on this host: its address is a loopback address."""
    try:
        address = ipaddress.ip_address(stream.socket.getpeername()[0].partition("%")[0])
    except (OSError, ValueError):
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
