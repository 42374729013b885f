"""A worker's stream to a node, in place of `rpc.grpc.connection`, without a buffer towards the worker.

A message from the node leaves it only when the worker takes it. So when a stream is cut, the node still has what it
could not send, and must give it back.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, suppress
from typing import Any

import trio

from orchy.rpc.api.sessions import WorkSessions
from orchy.rpc.grpc.framing import Status


class Pipe:
    """One stream. `is_live` tells whether the node's process is still running."""

    def __init__(self, is_live: Callable[[], bool]) -> None:
        self._is_live = is_live
        self._scope = trio.CancelScope()
        self._to_node, self._messages = trio.open_memory_channel[Any](math.inf)
        self._to_worker, self._replies = trio.open_memory_channel[Any](0)
        self.status: Status | None = None

    # The worker's side.

    @property
    def open(self) -> bool:
        """Whether messages can still arrive."""
        return not self._scope.cancel_called and self._is_live()

    def send(self, message: Any) -> None:
        """Send a message; it is lost if the node is gone or reads no more."""
        with suppress(trio.ClosedResourceError, trio.BrokenResourceError):
            self._to_node.send_nowait(message)

    def end_request(self) -> None:
        """End the worker's half of the stream (the worker is done, or the node drains)."""
        self._to_node.close()

    def cut(self) -> None:
        """Break the connection."""
        self._scope.cancel()
        self._to_node.close()
        self._replies.close()

    async def replies(self) -> AsyncIterator[Any]:
        """The node's messages, until it ends the stream or dies."""
        async for reply in self._replies:
            yield reply

    # The node's side.

    async def carry(self, sessions: WorkSessions) -> None:
        """Serve the call; runs as a task of the node."""
        try:
            with self._scope:
                async with aclosing(sessions.serve(self._messages)) as replies:
                    async for reply in replies:
                        if not self._is_live():
                            return  # a dead process sends nothing
                        await self._to_worker.send(reply)
        except Status as status:
            self.status = status
        except trio.BrokenResourceError:  # the stream was just cut
            pass
        except RuntimeError:  # a process that was just killed cannot start tasks
            if self._is_live():
                raise
        finally:
            self._to_worker.close()
