"""A request that is refused before any route sees it: status, sentence, and the bytes that say so."""

from __future__ import annotations

import attrs
import msgspec

RETRY_AFTER_SECONDS = 1
#: Of a value that a client sent, so much is repeated to it.
SHOWN_CHARACTERS_MAX = 100

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
    """`reason` is the label of the metric: one of few words, never what the client sent."""

    status: int
    reason: str
    sentence: str

    @property
    def body(self) -> dict[str, object]:
        """In the shape that all errors have."""
        return {"error": self.sentence, "details": []}

    @property
    def retries(self) -> bool:
        """Whether the same request may be taken a little later."""
        return self.status in (429, 503)

    def last_answer(self, *, head_only: bool = False) -> bytes:
        """As HTTP/1.1, for a connection that ends with it."""
        body = msgspec.json.encode(self.body)
        head = (
            f"HTTP/1.1 {self.status} {_PHRASES.get(self.status, 'Error')}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n"
        )
        if self.retries:
            head += f"retry-after: {RETRY_AFTER_SECONDS}\r\n"
        return f"{head}\r\n".encode() + (b"" if head_only else body)


def shown(value: bytes) -> str:
    """What a client sent, to be repeated to it."""
    text = value.decode("latin-1")
    return repr(text if len(text) <= SHOWN_CHARACTERS_MAX else f"{text[:SHOWN_CHARACTERS_MAX]}...")
