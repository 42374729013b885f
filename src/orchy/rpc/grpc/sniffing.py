"""Tells by the first bytes which protocol a peer speaks, if not ours, and says in its own what the port is for.

At a server these are clients that meant another port, or have another setting of TLS; at a client, the server of
another port.
"""

from __future__ import annotations

import re
from contextlib import suppress
from enum import StrEnum
from typing import Final

import trio

from orchy.rpc.http2.frames import PREFACE, ErrorCode, encode_goaway

#: So many of a peer's first bytes are looked at.
SNIFFED_BYTES_MAX: Final = 1_024
#: After a reply, so much more is read and discarded, for so long: closing a connection with unread bytes resets it, and
#: the reply may be lost.
DISCARDED_BYTES_MAX: Final = 256 * 1024
DISCARD_SECONDS: Final = 1.0
#: So many characters of a server's HTTP/1.1 answer are shown.
_REPLY_CHARACTERS_SHOWN = 200

#: The end of many a sentence to a worker.
WORKERS_PORT: Final = "workers connect to the port of --grpc-port (8099 by default)"
_HTTP1_REQUEST = re.compile(rb"[A-Z]{1,16}(?: |$)")
_HTTP1_RESPONSE = re.compile(rb"HTTP/1\.")
#: A record of a handshake or an alert, in any version (RFC 8446, section 5.1).
_TLS_RECORD = re.compile(rb"[\x15\x16]\x03")
#: GOAWAY with INADEQUATE_SECURITY, which is what `reply_on_tls_port` says.
_WANTS_TLS = re.compile(rb"...\x07.{9}\0\0\0\x0c", re.DOTALL)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


class SniffedProtocol(StrEnum):
    """What a peer speaks."""

    HTTP1 = "HTTP/1.1"
    HTTP2 = "HTTP/2"
    TLS = "TLS"
    OTHER = "something else"


def sniff_client(first: bytes) -> SniffedProtocol:
    """What a client speaks, by its first bytes."""
    if first and PREFACE.startswith(first[: len(PREFACE)]) and len(first) > 1:
        return SniffedProtocol.HTTP2
    if _TLS_RECORD.match(first):
        return SniffedProtocol.TLS
    return SniffedProtocol.HTTP1 if _HTTP1_REQUEST.match(first) else SniffedProtocol.OTHER


def reply_on_plaintext_port(foreign_protocol: SniffedProtocol) -> bytes:
    """What the port without TLS replies; nothing to a client that could not read it."""
    if foreign_protocol is SniffedProtocol.OTHER or foreign_protocol is SniffedProtocol.HTTP2:
        return b""
    # To TLS too: every client library reports it as "not TLS".
    return _http1_answer("This is Orchy's port for workers, which speaks gRPC over HTTP/2. REST is at --http-port.")


def reply_on_tls_port(foreign_protocol: SniffedProtocol) -> bytes:
    """What the port with TLS replies to a client that does not begin with a handshake."""
    text = "This is Orchy's port for workers, and it speaks TLS only."
    match foreign_protocol:
        case SniffedProtocol.HTTP1:
            return _http1_answer(f"{text} REST is at --http-port.")
        case SniffedProtocol.HTTP2:  # without SETTINGS before it, as other clients would try again and again
            return encode_goaway(0, ErrorCode.INADEQUATE_SECURITY, text.encode())
        case _:
            return b""


def _http1_answer(text: str) -> bytes:
    body = f"{text}\n".encode()
    head = f"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: {len(body)}\r\n"
    return f"{head}connection: close\r\n\r\n".encode() + body


async def reject(stream: trio.abc.Stream, answer: bytes) -> None:
    """Send a reply and let the client read it, bounded in time and bytes. The caller closes the stream.

    Raises trio.BrokenResourceError, trio.ClosedResourceError.
    """
    with trio.move_on_after(DISCARD_SECONDS):
        await stream.send_all(answer)
        if isinstance(stream, trio.abc.HalfCloseableStream):
            await stream.send_eof()
        discarded_bytes = 0
        while discarded_bytes < DISCARDED_BYTES_MAX and (data := await stream.receive_some()):
            discarded_bytes += len(data)


async def read_for(seconds: float, stream: trio.abc.Stream) -> bytes:
    """The next bytes within a time, as many as are looked at."""
    read = b""
    with trio.move_on_after(seconds), suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        while len(read) < SNIFFED_BYTES_MAX and (data := await stream.receive_some(SNIFFED_BYTES_MAX)):
            read += data
    return read


def describe_server(first: bytes) -> str:
    """What a server is that does not speak gRPC, by its first bytes, and what to do: follows its address."""
    if not first:
        return f"closed the connection without a word: does it speak TLS, or is it another port? {WORKERS_PORT}"
    if _TLS_RECORD.match(first) or _WANTS_TLS.match(first):
        return SPEAKS_TLS
    if _HTTP1_RESPONSE.match(first):
        said = _text_of(first)
        return (
            "speaks HTTP/1.1 and not gRPC: that is probably Orchy's REST port, or its gossip port;"
            f" {WORKERS_PORT}{f'. It said: {said}' if said else ''}"
        )
    return f"does not speak gRPC: {WORKERS_PORT}"


def describe_http2_server(status: str) -> str:
    """What a server is that speaks HTTP/2 but not gRPC, by the HTTP status of its answer."""
    return f"speaks HTTP/2 but not gRPC (it answered {status or 'nothing'}): {WORKERS_PORT}"


#: The server wants TLS, and the worker has none. Each of these follows the server's address.
SPEAKS_TLS: Final = "speaks TLS and this worker does not: give Worker(..., tls=True)"
#: The worker wants TLS, and the server has none.
SPEAKS_NO_TLS: Final = (
    "does not speak TLS: leave tls out of Worker(...), or start the server with --grpc-tls-cert and --grpc-tls-key;"
    f" or it is another port: {WORKERS_PORT}"
)
#: The server has TLS but no HTTP/2.
SPEAKS_NO_HTTP2: Final = f"does not speak HTTP/2, though it has TLS, so it is no port for workers: {WORKERS_PORT}"


def _text_of(first: bytes) -> str:
    """The text in an HTTP/1.1 answer, or else its status."""
    head, _, body = first.partition(b"\r\n\r\n")
    text = (body.strip() or head.partition(b"\r\n")[0]).decode("utf-8", "replace")
    return _CONTROL.sub(" ", text)[:_REPLY_CHARACTERS_SHOWN]
