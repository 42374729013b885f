"""TLS for the worker API: the server's context, and the handshake of both sides, which must agree on HTTP/2 (ALPN)."""

from __future__ import annotations

import ssl
from pathlib import Path

import trio

from orchy.errors import ConfigurationError

PROTOCOL = "h2"


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """A server's context from two PEM files: its certificate chain and its key. Raises ConfigurationError."""
    for flag, path in (("--grpc-tls-cert", certificate), ("--grpc-tls-key", key)):
        try:
            path.read_bytes()
        except OSError as error:
            raise ConfigurationError(f"{flag} {path} can't be read: {error.strerror or error}") from None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")  # of TLS 1.2, what RFC 9113 allows (section 9.2.2)
    context.options |= ssl.OP_NO_RENEGOTIATION  # section 9.2.1
    context.set_alpn_protocols([PROTOCOL])
    try:
        context.load_cert_chain(certificate, key, password=lambda: "")  # without one, OpenSSL asks the terminal
    except (ssl.SSLError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise ConfigurationError(
            f"--grpc-tls-cert {certificate} and --grpc-tls-key {key} are not a certificate and its key, both as PEM and"
            f" the key without a password: {reason}"
        ) from None
    return context


async def accept(stream: trio.abc.Stream, context: ssl.SSLContext) -> trio.abc.Stream | None:
    """The server's handshake; None for a client that does not speak HTTP/2. Raises trio.BrokenResourceError."""
    return await _shake_hands(trio.SSLStream(stream, context, server_side=True, https_compatible=True))


async def connect(stream: trio.abc.Stream, context: ssl.SSLContext, host: str) -> trio.abc.Stream | None:
    """The client's handshake; None for a server that does not speak HTTP/2. Raises trio.BrokenResourceError."""
    context.set_alpn_protocols([PROTOCOL])
    return await _shake_hands(trio.SSLStream(stream, context, server_hostname=host, https_compatible=True))


async def _shake_hands(stream: trio.SSLStream[trio.abc.Stream]) -> trio.abc.Stream | None:
    await stream.do_handshake()
    return stream if stream.selected_alpn_protocol() == PROTOCOL else None
