"""Addresses as operators write them: HOST:PORT. Pure."""

from __future__ import annotations

import re

import attrs


@attrs.frozen
class HostPort:
    """A host name or address, and a port (0: any that is free)."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_host_port(text: str) -> HostPort:
    """ "HOST:PORT", an IPv6 address in brackets."""
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%]+)\]|([^:\[\]\s]+)):(\d{1,5})", text.strip())
    if match is None or int(match[3]) > 65_535:
        raise ValueError("must be HOST:PORT, such as 127.0.0.1:8400 or [::1]:8400")
    return HostPort(match[1] or match[2], int(match[3]))
