"""A request that is refused before any route sees it: status, sentence, and the bytes of the response."""

from __future__ import annotations

import attrs
import msgspec

RETRY_AFTER_SECONDS = 1
#: How much of a value that a client sent is repeated to it.
QUOTED_CHARACTERS_MAX = 100

_PHRASES = {
    400: "Bad Request",
    403: "Forbidden",
    408: "Request Timeout",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    421: "Misdirected Request",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
}


@attrs.frozen
class Refusal:
    """`reason` is the label of the metric: one of a few words, never what the client sent."""

    status: int
    reason: str
    sentence: str

    def closing_response(self, *, head_only: bool = False) -> bytes:
        """The response in HTTP/1.1, for a connection that ends with it."""
        body = msgspec.json.encode({"error": self.sentence, "details": []})
        head = (
            f"HTTP/1.1 {self.status} {_PHRASES.get(self.status, 'Error')}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n"
        )
        if self.status in (429, 503):
            head += f"retry-after: {RETRY_AFTER_SECONDS}\r\n"
        return f"{head}\r\n".encode() + (b"" if head_only else body)


def quoted(value: bytes) -> str:
    """What a client sent, as it is repeated to it: printable and not too long."""
    text = value.decode("latin-1")
    return repr(text if len(text) <= QUOTED_CHARACTERS_MAX else f"{text[:QUOTED_CHARACTERS_MAX]}...")
