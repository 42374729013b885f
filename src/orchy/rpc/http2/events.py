"""What the machine tells its owner about an HTTP/2 connection."""

from __future__ import annotations

from enum import Enum
from typing import TypeAlias

import attrs

from orchy.rpc.http2.headers import Headers


class Role(Enum):
    """Which side of the connection; a client opens streams."""

    CLIENT = 1
    SERVER = 0


@attrs.frozen
class HeadersReceived:
    """The headers of a request or a response, or trailers."""

    stream_id: int
    headers: Headers
    ended: bool


@attrs.frozen
class DataReceived:
    """Some of a body."""

    stream_id: int
    data: bytes
    ended: bool


@attrs.frozen
class StreamReset:
    """The stream is no more: the peer reset it, or broke the protocol on it (`error` says how)."""

    stream_id: int
    code: int
    error: str = ""


@attrs.frozen
class WindowOpened:
    """More may be sent, on one stream or (0) on all."""

    stream_id: int


@attrs.frozen
class SettingsReceived:
    """The peer's settings have changed."""


@attrs.frozen
class GoingAway:
    """The peer refuses new streams; it has not processed those above `last_stream_id`."""

    last_stream_id: int
    code: int


Event: TypeAlias = HeadersReceived | DataReceived | StreamReset | WindowOpened | SettingsReceived | GoingAway
