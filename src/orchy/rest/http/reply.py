"""One answer, from ASGI's messages to the bytes of HTTP/1.1. Without IO."""

from __future__ import annotations

import time
from email.utils import formatdate
from typing import Any

import h11


class Reply:
    """`started`: its head was made; `ended`: all of it was; `due`: what was made should leave, as nothing follows."""

    def __init__(self, http: h11.Connection, method: bytes) -> None:
        self._http = http
        self._method = method
        self._start: Any = None
        self._left_bytes: int | None = None  # if it was said how long it is
        self._is_bodyless = False
        self.started = False
        self.ended = False
        self.due = False

    def take(self, message: Any, *, closes: bool) -> bytes:
        """Bytes of a message; with `closes` the connection ends after the answer. Raises LocalProtocolError."""
        if message["type"] == "http.response.start":
            self._start = message
            return b""
        made = b"" if self.started else self._head(closes)
        body, more = message.get("body", b""), message.get("more_body", False)
        if body and not self._is_bodyless:
            made += self._http.send(h11.Data(data=body))
        if self._left_bytes is not None:
            self._left_bytes -= len(body)
        if not more:
            made += self._http.send(h11.EndOfMessage())
            self.ended = True
        # Quart says that an answer is over after it has given all of it: that comes at once, and is waited for.
        self.due = not more or self._left_bytes != 0
        return made

    def _head(self, closes: bool) -> bytes:
        status: int = self._start["status"]
        headers = [(name, value) for name, value in self._start["headers"]]
        length = next((value for name, value in headers if name.lower() == b"content-length"), None)
        self._left_bytes = None if length is None else int(length)
        self._is_bodyless = self._method == b"HEAD" or status in (204, 304)
        headers.append((b"date", _date()))
        if closes:
            headers.append((b"connection", b"close"))
        made: bytes = self._http.send(h11.Response(status_code=status, headers=headers))
        self.started = True
        return made


_dated: tuple[int, bytes] = (0, b"")


def _date() -> bytes:
    """Now, as HTTP has it; made once a second."""
    global _dated
    now = int(time.time())
    if _dated[0] != now:
        _dated = now, formatdate(now, usegmt=True).encode()
    return _dated[1]
