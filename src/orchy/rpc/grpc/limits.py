"""Limits and timings of both ends of a gRPC connection."""

from __future__ import annotations

import attrs

from orchy.rpc.http2.limits import Http2Limits

#: Connections of workers to one server.
CONNECTIONS_MAX = 20_000
#: Streams that a client may have open, and the bytes of one that may arrive before they are taken.
STREAMS_MAX = 1_000
STREAM_WINDOW_BYTES = 2**20
_SERVER_HTTP2 = Http2Limits(
    streams_max=STREAMS_MAX, stream_window_bytes=STREAM_WINDOW_BYTES, window_bytes=4 * STREAM_WINDOW_BYTES
)
#: A server opens no streams.
_CLIENT_HTTP2 = Http2Limits(streams_max=0, stream_window_bytes=4 * 2**20, window_bytes=4 * 2**20)


@attrs.frozen
class ConnectionLimits:
    """How much the server keeps for one client."""

    http2: Http2Limits = _SERVER_HTTP2
    #: A call counts until its handler has ended, also when its stream was reset.
    calls_max: int = 2 * STREAMS_MAX
    #: Requests that no handler has taken yet.
    requests_bytes_max: int = 64 * 2**20
    #: Reading stops, and so do answers, while this much waits to be written.
    unsent_bytes_max: int = 2 * 2**20


@attrs.frozen
class ConnectionTiming:
    """How long the server waits for one client, in seconds."""

    #: A client may take so long to send its HTTP/2 preface and settings.
    handshake_seconds: float = 10.0
    #: A request, or a message of a stream, may take so long to arrive in whole. Checked when something arrives and at
    #: each ping.
    request_seconds: float = 60.0
    #: A client from which nothing arrived for so long is pinged, and has so long to answer.
    ping_after_seconds: float = 60.0
    ping_answer_seconds: float = 20.0
    #: Flood counts begin at zero again after so long.
    flood_seconds: float = 10.0
    #: A client that broke the protocol may take so long to read the GOAWAY that says so.
    last_write_seconds: float = 1.0


@attrs.frozen
class ServerLimits:
    """How many clients the server takes."""

    #: Connections beyond these are closed at once.
    connections_max: int = CONNECTIONS_MAX
    #: Clients that are in the middle of a TLS handshake, and how long one may take.
    handshakes_max: int = 1_000
    handshake_seconds: float = 10.0


@attrs.frozen
class ChannelLimits:
    """How much a client's connection keeps."""

    http2: Http2Limits = _CLIENT_HTTP2
    #: Calls at the same time; the others wait for their turn.
    calls_max: int = 500
    reply_bytes_max: int = 64 * 2**20


@attrs.frozen
class ChannelTiming:
    """How long a client waits for its server, in seconds."""

    #: Connecting, and then the TLS handshake, may each take so long.
    connect_seconds: float = 5.0
    #: A server that does not speak HTTP/2 has so long to finish its sentence, which is then shown.
    sniff_seconds: float = 0.5
    #: A server from which nothing arrived for so long is pinged, and has so long to answer.
    ping_after_seconds: float = 30.0
    ping_answer_seconds: float = 10.0


# The defaults.
CONNECTION_LIMITS = ConnectionLimits()
CONNECTION_TIMING = ConnectionTiming()
SERVER_LIMITS = ServerLimits()
CHANNEL_LIMITS = ChannelLimits()
CHANNEL_TIMING = ChannelTiming()
