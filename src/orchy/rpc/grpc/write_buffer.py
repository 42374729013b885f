"""What a connection has to send. It leaves at once where nothing else is to be said, else together, by a task.

Why it is fast: with few calls under way there is nothing to be gathered, and a turn of the scheduler only costs; with
many, all that is said in one turn is one write.
"""

from __future__ import annotations

import trio

from orchy.runtime.sockets import PromptStream

#: Up to so many calls what is said leaves at once.
CALLS_AT_ONCE = 4
#: The most bytes of one write.
SEND_BYTES = 64 * 1024
#: How long a peer may take for so many.
SEND_SECONDS = 60.0


class WriteBuffer:
    """The bytes that were not sent yet, and who sends them."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._prompt = stream if isinstance(stream, PromptStream) else None
        self._unsent = bytearray()
        self._to_write = trio.Event()
        self._written = trio.Event()

    def __len__(self) -> int:
        """How many bytes wait."""
        return len(self._unsent)

    def write(self, data: bytes, calls: int) -> None:
        """Send, when there are so many calls under way."""
        if self._prompt and data and not self._unsent and calls <= CALLS_AT_ONCE:
            data = data[self._prompt.send_at_once(data) :]
        if data:
            self._unsent += data
            self._to_write.set()

    async def wait_for_progress(self) -> None:
        """Returns when some of it was sent, or `wake` was called."""
        await self._written.wait()

    def wake(self) -> None:
        """Let those who wait for progress look around."""
        self._written.set()
        self._written = trio.Event()

    async def run(self) -> None:
        """Send what waits, until it can't be sent: the connection is broken, or the peer takes nothing."""
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
