"""Header blocks: HPACK (RFC 7541) to checked headers and back. The hpack library does the compression.

Why it is fast: a client repeats itself. A block that does not change the compression table means the same until another
one does, so it is decoded and checked once. What we send never uses the peer's table, so a block is encoded once, at
import, and is good for every connection.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import attrs
from hpack import Decoder, Encoder, HPACKError, NeverIndexedHeaderTuple, OversizedHeaderListError

from orchy.rpc.http2.frames import ErrorCode, ProtocolError

#: The most bytes of one message's headers, each counted as its name, its value and 32 (RFC 9113, section 6.5.2).
HEADER_BYTES_MAX: Final = 16 * 1024
#: The cache of decoded blocks: how many, the longest, and the most characters that one may decode to.
CACHED_BLOCKS_MAX: Final = 64
CACHED_BLOCK_BYTES_MAX: Final = 512
CACHED_HEADER_CHARACTERS_MAX: Final = 2_000
#: Begins a block: the table has size 0 from here on (RFC 7541, section 6.3).
EMPTY_TABLE_SIZE_UPDATE: Final = b"\x20"

#: hpack reads numbers of any length, in quadratic time: this many bytes are allowed.
_NUMBER_BYTES_MAX: Final = 1_000
_MAYBE_NUMBER = re.compile(rb"[\x80-\xff]+")
_NAME = re.compile(r"[a-z0-9!#$%&'*+\-.^_`|~]+")
_BAD_VALUE = re.compile(r"[\x00\r\n]|^[ \t]|[ \t]$")
#: Connection-specific fields, which HTTP/2 forbids (RFC 9113, section 8.2.2).
_FORBIDDEN = frozenset({"connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade"})
_REQUEST_PSEUDO = frozenset({":method", ":scheme", ":path", ":authority"})
_RESPONSE_PSEUDO = frozenset({":status"})

_encoder = Encoder()


@attrs.frozen
class Headers:
    """The headers of one message. `flaw` says why they are malformed (section 8.1.1), if they are."""

    fields: Mapping[str, str]
    flaw: str | None = None


def encode_block(headers: Iterable[tuple[str, str]]) -> bytes:
    """A block that any peer can read at any time: it uses no table."""
    block: bytes = _encoder.encode([NeverIndexedHeaderTuple(name, value) for name, value in headers])
    return block


class HeaderReader:
    """Decodes the blocks that one peer sends, in their order."""

    def __init__(self) -> None:
        self._decoder = Decoder(max_header_list_size=HEADER_BYTES_MAX)
        self._cache: dict[tuple[bytes, bool], Headers] = {}

    def read(self, block: bytes, *, of_requests: bool) -> Headers:
        """The headers in a block; `of_requests`: the peer sends requests. Raises ProtocolError."""
        known = self._cache.get((block, of_requests))
        if known is not None:
            return known
        table = self._decoder.header_table
        entries, size, newest = len(table.dynamic_entries), table.maxsize, _newest(table)
        headers = self._decode(block, _REQUEST_PSEUDO if of_requests else _RESPONSE_PSEUDO)
        # `newest` is held meanwhile, so no other entry can be the same object.
        if _newest(table) is not newest or (len(table.dynamic_entries), table.maxsize) != (entries, size):
            self._cache.clear()
        elif len(block) <= CACHED_BLOCK_BYTES_MAX and _characters_of(headers) <= CACHED_HEADER_CHARACTERS_MAX:
            if len(self._cache) >= CACHED_BLOCKS_MAX:
                self._cache.clear()
            self._cache[block, of_requests] = headers
        return headers

    def _decode(self, block: bytes, pseudo: frozenset[str]) -> Headers:
        if (
            len(block) > _NUMBER_BYTES_MAX
            and max(map(len, _MAYBE_NUMBER.findall(block)), default=0) > _NUMBER_BYTES_MAX
        ):
            raise ProtocolError(ErrorCode.COMPRESSION_ERROR, "a header block with a number without end")
        try:
            return _check(self._decoder.decode(block, raw=False), pseudo)
        except OversizedHeaderListError:
            message = f"headers may have {HEADER_BYTES_MAX} bytes"
            raise ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, message) from None
        except (HPACKError, UnicodeDecodeError, IndexError) as error:
            if isinstance(error.__context__, UnicodeDecodeError):  # the block was read to its end
                return Headers({}, "headers that are not UTF-8")
            raise ProtocolError(ErrorCode.COMPRESSION_ERROR, f"a header block can't be read: {error}") from None


def _newest(table: Any) -> object:
    """The last entry; a different object after each insertion."""
    return table.dynamic_entries[0] if table.dynamic_entries else None


def _characters_of(headers: Headers) -> int:
    return sum(len(name) + len(value) for name, value in headers.fields.items())


def _check(fields: Iterable[tuple[str, str]], pseudo: frozenset[str]) -> Headers:
    """The headers as a mapping, repeated ones joined, and what is wrong with them (sections 8.2 and 8.3)."""
    found: dict[str, str] = {}
    flaw: str | None = None
    for name, value in fields:
        if name.startswith(":"):
            if name not in pseudo or name in found:
                flaw = flaw or f"the pseudo-header {name[:50]!r} is not expected"
            elif any(not other.startswith(":") for other in found):
                flaw = flaw or "a pseudo-header after others"
        elif not _NAME.fullmatch(name):
            flaw = flaw or f"{name[:50]!r} is no header's name"
        elif name in _FORBIDDEN or (name == "te" and value != "trailers"):
            flaw = flaw or f"the header {name} is not for HTTP/2"
        if _BAD_VALUE.search(value):
            flaw = flaw or f"the header {name[:50]!r} has a value that can't be"
        found[name] = f"{found[name]}, {value}" if name in found else value
    return Headers(found, flaw)


def message_flaw(fields: Mapping[str, str], *, trailers: bool, ended: bool, of_request: bool) -> str | None:
    """What is missing in headers, or superfluous in trailers (RFC 9113, section 8)."""
    if trailers:
        if not ended:
            return "trailers that do not end the stream"
        return "trailers with a pseudo-header" if any(name.startswith(":") for name in fields) else None
    length = fields.get("content-length", "0")
    if not (length.isascii() and length.isdigit() and len(length) < 16):
        return "a content-length that can't be"
    if not of_request:
        status = fields.get(":status", "")
        if not (len(status) == 3 and status.isascii() and status.isdigit()):
            return "a response without a status"
        return "an interim response that ends the stream" if ended and status[0] == "1" else None
    if not fields.get(":method") or not fields.get(":scheme") or not fields.get(":path"):
        return "a request without method, scheme or path"
    return None
