"""One response, from ASGI's messages to the bytes of HTTP/1.1. Without IO."""

from __future__ import annotations

import time
from email.utils import formatdate
from typing import Any

import h11


class ResponseEncoder:
    """`started`: its head was encoded; `ended`: all of it was; `flush_due`: no message follows at once, so what was
    encoded should be sent."""

    def __init__(self, http: h11.Connection, method: bytes) -> None:
        self._http = http
        self._method = method
        self._start: Any = None
        self._left_bytes: int | None = None  # of the body, if its length was given
        self._is_bodyless = False
        self.started = False
        self.ended = False
        self.flush_due = False

    def encode(self, message: Any, *, closes: bool) -> bytes:
        """The bytes of a message; with `closes` the connection ends after the response. Raises LocalProtocolError."""
        if message["type"] == "http.response.start":
            self._start = message
            return b""
        encoded = b"" if self.started else self._head(closes)
        body, more = message.get("body", b""), message.get("more_body", False)
        if body and not self._is_bodyless:
            encoded += self._http.send(h11.Data(data=body))
        if self._left_bytes is not None:
            self._left_bytes -= len(body)
        if not more:
            encoded += self._http.send(h11.EndOfMessage())
            self.ended = True
        # Quart sends the end of a response as a message of its own, right after the last part of the body: wait for it.
        self.flush_due = not more or self._left_bytes != 0
        return encoded

    def _head(self, closes: bool) -> bytes:
        status: int = self._start["status"]
        headers = [(name, value) for name, value in self._start["headers"]]
        length = next((value for name, value in headers if name.lower() == b"content-length"), None)
        self._left_bytes = None if length is None else int(length)
        self._is_bodyless = self._method == b"HEAD" or status in (204, 304)
        headers.append((b"date", _date()))
        if closes:
            headers.append((b"connection", b"close"))
        encoded: bytes = self._http.send(h11.Response(status_code=status, headers=headers))
        self.started = True
        return encoded


_cached_date: tuple[int, bytes] = (0, b"")


def _date() -> bytes:
    """Now, in the format of HTTP's Date; formatted once a second."""
    global _cached_date
    now = int(time.time())
    if _cached_date[0] != now:
        _cached_date = now, formatdate(now, usegmt=True).encode()
    return _cached_date[1]
