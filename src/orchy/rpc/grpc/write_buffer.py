"""What a connection has to send: written at once while few calls are under way, else gathered and written by a task.

Why it is fast: with few calls there is nothing to gather, and a turn of the scheduler would only cost time; with many,
all that is sent within one turn is one write.
"""

from __future__ import annotations

import trio

from orchy.runtime.sockets import PromptStream

#: With so many calls under way or fewer, data is written at once.
CALLS_AT_ONCE = 4
#: The most bytes of one write.
SEND_BYTES = 64 * 1024
#: How long a peer may take to accept so many.
SEND_SECONDS = 60.0


class WriteBuffer:
    """The unsent bytes of a connection; `run` sends them."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._prompt = stream if isinstance(stream, PromptStream) else None
        self._unsent = bytearray()
        self._to_write = trio.Event()
        self._written = trio.Event()

    def __len__(self) -> int:
        """How many bytes are unsent."""
        return len(self._unsent)

    def write(self, data: bytes, calls: int) -> None:
        """Send data; `calls` are under way."""
        if self._prompt and data and not self._unsent and calls <= CALLS_AT_ONCE:
            data = data[self._prompt.send_at_once(data) :]
        if data:
            self._unsent += data
            self._to_write.set()

    async def wait_for_progress(self) -> None:
        """Returns when some bytes were sent, or `wake` was called."""
        await self._written.wait()

    def wake(self) -> None:
        """End all waits for progress."""
        self._written.set()
        self._written = trio.Event()

    async def run(self) -> None:
        """Send until the connection breaks, or the peer accepts nothing."""
        while True:
            await self._to_write.wait()
            while self._unsent:
                data = bytes(self._unsent[:SEND_BYTES])
                try:
                    with trio.fail_after(SEND_SECONDS):
                        await self._stream.send_all(data)
                except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
                    return
                del self._unsent[: len(data)]
                self.wake()
            self._to_write = trio.Event()
