"""`POST /flow/execute` without the framework: the one route whose cost users feel. All else is Quart's.

A request makes contexts, tasks and objects in Quart, as much work as the start of a flow. Here its ASGI messages are
read and answered as they are. It stands behind the same middleware as all routes, and what a start means is decided by
the same function; a body that is large, or of unknown length, goes to Quart's own route, which is the same to its
caller.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from orchy.rest.middleware.metrics import ROUTE
from orchy.rest.responses import send_json

PATH = "/flow/execute"
#: A larger body is Quart's.
BODY_BYTES_MAX = 64 * 1024

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Application = Callable[[Any, Receive, Send], Awaitable[None]]


class StartFastPath:
    """An ASGI application before another one. `execute` takes a body and gives what is answered, or raises."""

    def __init__(self, application: Application, execute: Callable[[bytes], Awaitable[Any]]) -> None:
        self._application = application
        self._execute = execute

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """One request, or whatever else ASGI has."""
        if scope["type"] == "http" and scope["path"] == PATH and scope["method"] == "POST" and _is_small(scope):
            scope[ROUTE] = PATH
            body = await _read(receive)
            if body is not None:
                await send_json(send, await self._execute(body))
        else:
            await self._application(scope, receive, send)


def _is_small(scope: Any) -> bool:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return value.isdigit() and len(value) < 10 and int(value) <= BODY_BYTES_MAX
    return False


async def _read(receive: Receive) -> bytes | None:
    """The body; None when the client has disconnected, so that no answer is needed."""
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)
