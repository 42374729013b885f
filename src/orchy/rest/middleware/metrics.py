"""Each answer is counted and timed, by method, route and status."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

#: Where in its scope a request's route stands, once it is known: as the url map writes it, never a path that was asked.
ROUTE = "orchy.route"


class MetricsMiddleware:
    """`requested` takes method, route, status and the seconds from the request to the head of its answer."""

    def __init__(
        self,
        application: Callable[[Any, Any, Any], Awaitable[None]],
        requested: Callable[[str, str, int, float], None],
    ) -> None:
        self._application = application
        self._requested = requested

    async def __call__(self, scope: Any, receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:
        """One request, or whatever else ASGI has."""
        began = time.perf_counter()

        def timed_send(message: Any) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                seconds = time.perf_counter() - began
                self._requested(scope["method"], scope.get(ROUTE, "none"), message["status"], seconds)
            return send(message)

        await self._application(scope, receive, timed_send)
