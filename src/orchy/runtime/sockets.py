"""A socket stream that can also send synchronously, without a turn of the scheduler.

With Trio's own socket streams a task has to be woken to send an answer, which leaves one turn later. Where messages
follow each other (a step of a flow is four of them) those turns are most of the time.

Why it is fast: `send_at_once` is one system call and no switch; `receive_some` waits first and reads once.
"""

from __future__ import annotations

import socket
from operator import index

import trio

RECEIVE_BYTES = 64 * 1024


class PromptStream(trio.abc.HalfCloseableStream):
    """A TCP or Unix connection. It takes over the socket of `stream`, which can't be used any more."""

    def __init__(self, stream: trio.SocketStream) -> None:
        original = stream.socket
        self._socket = socket.socket(original.family, original.type, original.proto, fileno=original.detach())
        self._socket.setblocking(False)
        self._sending = False
        self._ended = False

    @property
    def socket(self) -> socket.socket:
        """For its addresses and options."""
        return self._socket

    def send_at_once(self, data: bytes | bytearray) -> int:
        """Send as much as fits into the socket's buffer; returns the number of bytes, 0 during a `send_all`.

        Errors are left for the next `send_all` or `receive_some` to raise.
        """
        if self._sending:
            return 0
        try:
            return self._socket.send(data)
        except OSError:  # full, broken or closed
            return 0

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of it. Raises BrokenResourceError, ClosedResourceError; BusyResourceError for a second sender."""
        self._claim_sending()
        try:
            await trio.lowlevel.checkpoint()
            self._check_open(sends=True)
            left = memoryview(data)
            while left:
                try:
                    left = left[self._socket.send(left) :]
                except BlockingIOError:
                    await trio.lowlevel.wait_writable(self._socket)
                except OSError as error:
                    raise self._translated(error) from error
        finally:
            self._sending = False

    async def wait_send_all_might_not_block(self) -> None:
        """Wait for room in the socket's buffer. Raises as `send_all` does."""
        self._claim_sending()
        try:
            await trio.lowlevel.checkpoint()
            self._check_open(sends=True)
            await trio.lowlevel.wait_writable(self._socket)
        finally:
            self._sending = False

    async def send_eof(self) -> None:
        """End the sending half. Raises as `send_all` does."""
        self._claim_sending()
        try:
            await trio.lowlevel.checkpoint()
            self._check_open()
            if not self._ended:
                self._ended = True
                self._socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise self._translated(error) from error
        finally:
            self._sending = False

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """At least one byte, or none at the end of the stream. Raises BrokenResourceError, ClosedResourceError."""
        bytes_max = RECEIVE_BYTES if max_bytes is None else index(max_bytes)
        if bytes_max < 1:
            raise ValueError("max_bytes is 1 or more")
        while True:
            self._check_open()
            await trio.lowlevel.wait_readable(self._socket)
            try:
                return self._socket.recv(bytes_max)
            except BlockingIOError:
                continue
            except OSError as error:
                raise self._translated(error) from error

    async def peek(self, bytes_max: int) -> bytes:
        """As `receive_some`, but leaves the bytes in the socket's buffer."""
        while True:
            self._check_open()
            await trio.lowlevel.wait_readable(self._socket)
            try:
                return self._socket.recv(bytes_max, socket.MSG_PEEK)
            except BlockingIOError:
                continue
            except OSError as error:
                raise self._translated(error) from error

    @property
    def peer(self) -> str:
        """The other end, for log lines: "host:port" of an open TCP connection."""
        try:
            name = self._socket.getpeername()
        except OSError:
            return "somebody who is gone"
        return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else "somebody on this host"

    async def aclose(self) -> None:
        """Close it; tasks that wait for it get a ClosedResourceError."""
        if self._socket.fileno() != -1:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()
        await trio.lowlevel.checkpoint()

    def _claim_sending(self) -> None:
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this stream")
        self._sending = True

    def _check_open(self, *, sends: bool = False) -> None:
        if self._socket.fileno() == -1 or (sends and self._ended):
            raise trio.ClosedResourceError("this stream is closed")

    def _translated(self, error: OSError) -> Exception:
        if self._socket.fileno() == -1:
            return trio.ClosedResourceError("this stream is closed")
        return trio.BrokenResourceError(f"the connection is broken: {error}")
