"""How much, and for how long: what one node takes from all REST clients together, and from one connection."""

from __future__ import annotations

import attrs

#: Two bodies of the largest size must fit, so that one client can't keep all others from sending theirs.
_BODIES_MIN = 2


@attrs.frozen
class Limits:
    """`connections_max` is less where fewer files may be open; `bytes_max` is of bodies that are not answered yet and
    of answers that are not taken, all together; `requests_per_second` is of all clients together, 0 for any number.

    The others are of one request. `values_max` counts the values of a body, those in lists and objects included: so
    many take about a quarter of a second to be parsed.
    """

    body_bytes_max: int = 10 * 2**20
    connections_max: int = 10_000
    bytes_max: int = 128 * 2**20
    requests_per_second: int = 10_000
    head_bytes_max: int = 64 * 1024
    values_max: int = 250_000

    @property
    def held_bytes_max(self) -> int:
        """`bytes_max`, or more where one body may be so large."""
        return max(self.bytes_max, _BODIES_MIN * self.body_bytes_max)


@attrs.frozen
class Timing:
    """All in seconds. A client may be silent for `idle` between requests, and before the first one; its head arrives
    within `head` of its first byte, its body within `body` of its head; it takes an answer within `send`. What it still
    sends after a refusal is read and dropped for `linger`. After accepting failed, it is tried again after
    `accept_retry`.
    """

    idle_seconds: float = 75.0
    head_seconds: float = 10.0
    body_seconds: float = 30.0
    send_seconds: float = 60.0
    linger_seconds: float = 10.0
    accept_retry_seconds: float = 0.05


DEFAULT_LIMITS = Limits()
DEFAULT_TIMING = Timing()
