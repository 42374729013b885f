"""What gRPC adds to HTTP/2, as functions: message prefixes, timeouts, statuses. Pure.

Source: PROTOCOL-HTTP2.md of gRPC.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import IntEnum
from urllib.parse import quote, unquote

from orchy.rpc.grpc.sniffing import describe_http2_server

#: Bytes before each message: whether it is compressed, and its length.
PREFIX_BYTES = 5

_TIMEOUT = re.compile(r"(\d{1,8})([HMSmun])")
_TIMEOUT_UNIT_SECONDS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}


class Code(IntEnum):
    """Status codes that are used here."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14


class Status(Exception):
    """How a call ended that failed."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def frame(message: bytes) -> bytes:
    """A message with its prefix, not compressed."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def unframe(data: bytes | bytearray) -> bytes:
    """The one message of a unary call. Raises Status."""
    if len(data) < PREFIX_BYTES:
        raise Status(Code.INVALID_ARGUMENT, "the call has no message")
    if data[0]:
        raise Status(Code.UNIMPLEMENTED, "compressed messages are not taken")
    if int.from_bytes(data[1:PREFIX_BYTES], "big") != len(data) - PREFIX_BYTES:
        raise Status(Code.INVALID_ARGUMENT, "the call has not exactly one message")
    return bytes(data[PREFIX_BYTES:])


def parse_timeout(text: str) -> float:
    """Seconds of a `grpc-timeout` header. Raises Status."""
    match = _TIMEOUT.fullmatch(text)
    if match is None:
        raise Status(Code.INVALID_ARGUMENT, "the grpc-timeout header is not one")
    return int(match[1]) * _TIMEOUT_UNIT_SECONDS[match[2]]


def encode_message(text: str) -> str:
    """A status message as a header value, which has no space at its ends (RFC 9113, section 8.2.1)."""
    value = quote(text[:1000], safe=" !\"#$&'()*+,-./:;<=>?@[]^_`{|}~", errors="replace")
    inner = value.strip(" ")
    before = len(value) - len(value.lstrip(" ")) if inner else len(value)
    return "%20" * before + inner + "%20" * (len(value) - before - len(inner))


def decode_message(text: str) -> str:
    """The status message in a header value."""
    return unquote(text)


def decode_status(fields: Mapping[str, str]) -> Status | None:
    """The status in the headers that ended a call; None: it is OK."""
    code, message = fields.get("grpc-status"), fields.get("grpc-message", "")
    if code is None:
        if fields.get(":status", "200") != "200":
            return not_grpc(fields)
        return Status(Code.UNAVAILABLE, "the server ended the call without a status")
    number = int(code) if code.isascii() and code.isdigit() else int(Code.UNKNOWN)
    if number == Code.OK:
        return None
    return Status(Code(number) if number in set(Code) else Code.UNKNOWN, decode_message(message))


def not_grpc(fields: Mapping[str, str]) -> Status:
    """The status of a call to an HTTP/2 server that does not speak gRPC."""
    return Status(Code.UNAVAILABLE, f"it {describe_http2_server(fields.get(':status', ''))}")
