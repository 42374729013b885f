"""The envelope of each packet and frame: which cluster it belongs to, and that it is intact.

    version (1 byte) | kind (1 byte) | length of the label (1 byte) | label | seal | body

Kind 0: the seal is the CRC-32 of all else, against damage and stray packets. Kind 1: the seal is a nonce of 12 bytes,
the body is encrypted with AES-GCM, its tag at the end, the bytes before the seal its associated data. A node that has
keys accepts nothing unencrypted. Several keys allow a rotation: the first one encrypts, each one decrypts.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from orchy.swim.parameters import LABEL_BYTES_MAX

VERSION = 1
PLAIN, ENCRYPTED = 0, 1
CRC_BYTES, NONCE_BYTES, TAG_BYTES = 4, 12, 16
HEADER_BYTES = 3


class Unopened(Exception):
    """A packet that is not for this node. It is counted under `reason`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Envelope:
    """Seals and opens for one cluster."""

    def __init__(
        self, label: str, keys: Sequence[bytes] = (), random_bytes: Callable[[int], bytes] = os.urandom
    ) -> None:
        """`keys` are of 16, 24 or 32 bytes. Raises ValueError."""
        encoded = label.encode()
        if len(encoded) > LABEL_BYTES_MAX:
            raise ValueError(f"a cluster's label is at most {LABEL_BYTES_MAX} bytes")
        self._ciphers = [AESGCM(key) for key in keys]
        self._random_bytes = random_bytes
        self._header = bytes([VERSION, ENCRYPTED if keys else PLAIN, len(encoded)]) + encoded
        self._header_crc = zlib.crc32(self._header)
        #: How many bytes sealing adds.
        self.overhead_bytes = len(self._header) + (NONCE_BYTES + TAG_BYTES if keys else CRC_BYTES)

    def seal(self, body: bytes) -> bytes:
        """The packet of a body."""
        if self._ciphers:
            nonce = self._random_bytes(NONCE_BYTES)
            return self._header + nonce + self._ciphers[0].encrypt(nonce, body, self._header)
        return self._header + zlib.crc32(body, self._header_crc).to_bytes(CRC_BYTES, "big") + body

    def open(self, packet: bytes) -> bytes:
        """The body of a packet. Raises Unopened."""
        if not packet.startswith(self._header):
            raise Unopened(self._rejection_reason(packet))
        return self._opened(packet, self._header, self._header_crc)

    def open_foreign(self, packet: bytes) -> bytes:
        """The body of a packet with any label, sealed with one of these keys. Raises Unopened."""
        if len(packet) < HEADER_BYTES or len(packet) < HEADER_BYTES + packet[2]:
            raise Unopened("truncated")
        if packet[0] != VERSION:
            raise Unopened("wrong version")
        if packet[1] != self._header[1]:
            raise Unopened("wrong key")  # one of the two has keys and the other has none
        header = packet[: HEADER_BYTES + packet[2]]
        return self._opened(packet, header, zlib.crc32(header))

    @property
    def encrypts(self) -> bool:
        """Whether only the holder of a key can have sealed what it opens."""
        return bool(self._ciphers)

    def _opened(self, packet: bytes, header: bytes, header_crc: int) -> bytes:
        start = len(header)
        if not self._ciphers:
            body = packet[start + CRC_BYTES :]
            if packet[start : start + CRC_BYTES] != zlib.crc32(body, header_crc).to_bytes(CRC_BYTES, "big"):
                raise Unopened("damaged")
            return body
        nonce, sealed = packet[start : start + NONCE_BYTES], packet[start + NONCE_BYTES :]
        if len(sealed) < TAG_BYTES:
            raise Unopened("truncated")
        for cipher in self._ciphers:
            try:
                return cipher.decrypt(nonce, sealed, header)
            except InvalidTag:
                continue
        raise Unopened("wrong key")

    def _rejection_reason(self, packet: bytes) -> str:
        if len(packet) < HEADER_BYTES or len(packet) < HEADER_BYTES + packet[2]:
            return "truncated"
        if packet[0] != VERSION:
            return "wrong version"
        if label_of(packet) != label_of(self._header):
            return "wrong label"
        return "wrong key"  # one of the two has keys and the other has none


def label_of(packet: bytes) -> str:
    """The label of a packet; not authenticated, so only for messages to people."""
    length = packet[2] if len(packet) >= HEADER_BYTES else 0
    return packet[HEADER_BYTES : HEADER_BYTES + length].decode(errors="replace")
