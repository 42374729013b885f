"""Reads from a socket the ICMP port unreachable answers of hosts, for datagrams to a port at which nobody listens.

Linux keeps them for a socket that asks for them (IP_RECVERR, see ip(7)). Elsewhere there is no such evidence.
"""

from __future__ import annotations

import socket
import struct
import sys
from contextlib import suppress

from orchy.swim.records import Address

#: Refusals that are read at a time.
REFUSALS_MAX = 64

#: (level, option) that keeps ICMP errors for a socket, by family: IP_RECVERR, IPV6_RECVERR, which Python 3.11 lacks.
_RECEIVE_ERRORS = {socket.AF_INET: (socket.IPPROTO_IP, 11), socket.AF_INET6: (socket.IPPROTO_IPV6, 25)}
#: Of struct sock_extended_err (ip(7)): errno, origin, type, code.
_ERROR = struct.Struct("=IBBB")
#: (origin, type, code) of "port unreachable": ICMP's and ICMPv6's.
_PORT_UNREACHABLE = {(2, 3, 3), (3, 1, 4)}
_ERROR_LEVELS = frozenset(_RECEIVE_ERRORS.values())


def keep_refusals(udp: socket.socket) -> None:
    """Let the kernel keep ICMP errors for this socket. Where it can't, there is no such evidence."""
    level_and_option = _RECEIVE_ERRORS.get(udp.family)
    if sys.platform == "linux" and level_and_option is not None:
        with suppress(OSError):
            udp.setsockopt(*level_and_option, 1)


def _is_port_unreachable(data: bytes) -> bool:
    if len(data) < _ERROR.size:
        return False
    _, origin, kind, code = _ERROR.unpack_from(data)
    return (origin, kind, code) in _PORT_UNREACHABLE


def read_refusals(udp: socket.socket) -> list[Address]:
    """Addresses at which hosts said that nobody listens; at most REFUSALS_MAX. Empty where unsupported."""
    refused: list[Address] = []
    if sys.platform != "linux":
        return refused
    for _ in range(REFUSALS_MAX):
        try:
            _, ancillary, _, target = udp.recvmsg(1, 256, socket.MSG_ERRQUEUE)
        except OSError:  # the queue is empty
            break
        if any(_is_port_unreachable(data) for level, kind, data in ancillary if (level, kind) in _ERROR_LEVELS):
            refused.append(target[:2])
    return refused
