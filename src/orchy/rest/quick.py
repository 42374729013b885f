"""`POST /flow/execute` without the framework: the one route whose cost users feel. All else is Quart's.

A request makes contexts, tasks and objects in Quart, as much work as the start of a flow. Here its ASGI messages are
read and answered as they are. What a start means and what an error looks like is decided where it is for all routes;
a body that is large, or of unknown length, goes to Quart's own route, which is the same to its caller.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from orchy.errors import OrchyError
from orchy.rest.answers import encode, error_body, headers_of, told

ROUTE = "/flow/execute"
#: A larger body is Quart's.
BODY_BYTES_MAX = 64 * 1024

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Application = Callable[[Any, Receive, Send], Awaitable[None]]

log = logging.getLogger(__name__)


class QuickStarts:
    """An ASGI application before another one. `execute` takes a body and gives what is answered, or raises."""

    def __init__(
        self,
        application: Application,
        execute: Callable[[bytes], Awaitable[Any]],
        requested: Callable[[str, str, int, float], None],
    ) -> None:
        self._application = application
        self._execute = execute
        self._requested = requested

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """One request, or whatever else ASGI has."""
        if scope["type"] == "http" and scope["path"] == ROUTE and scope["method"] == "POST" and _is_small(scope):
            await self._answer(receive, send)
        else:
            await self._application(scope, receive, send)

    async def _answer(self, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        body = await _read(receive)
        if body is None:
            return  # nobody waits for an answer
        status, shown = await self._outcome(body)
        data = encode(shown)
        headers = [(b"content-length", b"%d" % len(data)), *headers_of(status)]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": data, "more_body": False})
        self._requested("POST", ROUTE, status, time.perf_counter() - began)

    async def _outcome(self, body: bytes) -> tuple[int, Any]:
        try:
            return 200, await self._execute(body)
        except OrchyError as error:
            return told(error)
        except Exception as error:
            log.error("POST %s failed", ROUTE, exc_info=error)
            return 500, error_body("the server failed; its log says why")


def _is_small(scope: Any) -> bool:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return value.isdigit() and len(value) < 10 and int(value) <= BODY_BYTES_MAX
    return False


async def _read(receive: Receive) -> bytes | None:
    """The body; None when the client has gone."""
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)
