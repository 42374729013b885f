"""A worker's stream to a node: what `rpc.connection` is in a server, with nothing in between that keeps anything.

What the node says is with the worker when the worker takes it, and not before; so a stream that is cut leaves the node
with what it could not say, and it is in the node's hands to give that back.
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
    """One stream. `ended` is set when the node has said all; `is_live` says whether its process is still there."""

    def __init__(self, is_live: Callable[[], bool]) -> None:
        self._is_live = is_live
        self._scope = trio.CancelScope()
        self._to_node, self._messages = trio.open_memory_channel[Any](math.inf)
        self._to_worker, self._replies = trio.open_memory_channel[Any](0)
        self.status: Status | None = None

    # The worker's side.

    @property
    def open(self) -> bool:
        """Whether what is said may be heard."""
        return not self._scope.cancel_called and self._is_live()

    def send(self, message: Any) -> None:
        """Send a message; it is lost if the node has gone, or takes no more."""
        with suppress(trio.ClosedResourceError, trio.BrokenResourceError):
            self._to_node.send_nowait(message)

    def end_request(self) -> None:
        """Nothing more is said (the worker's end of it, or the node drains)."""
        self._to_node.close()

    def cut(self) -> None:
        """The connection is gone."""
        self._scope.cancel()
        self._to_node.close()
        self._replies.close()

    async def replies(self) -> AsyncIterator[Any]:
        """What the node says, until it ends the stream or is gone."""
        async for reply in self._replies:
            yield reply

    # The node's side.

    async def carry(self, sessions: WorkSessions) -> None:
        """Be the call; a task of the node."""
        try:
            with self._scope:
                async with aclosing(sessions.serve(self._messages)) as replies:
                    async for reply in replies:
                        if not self._is_live():
                            return  # a dead process says nothing
                        await self._to_worker.send(reply)
        except Status as status:
            self.status = status
        except trio.BrokenResourceError:  # cut just now
            pass
        except RuntimeError:  # no task can be started in a process that has just been killed
            if self._is_live():
                raise
        finally:
            self._to_worker.close()
