"""How many values a JSON body has, before anybody makes them: ten megabytes of `[],` take seconds and 500 MB. Pure."""

from __future__ import annotations

import re

#: Values of a body, those in lists and objects included. So many take about a quarter of a second to be read.
VALUES_MAX = 250_000

_STRINGS = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)


def has_too_many_values(body: bytes | bytearray) -> bool:
    """Whether a body has more than VALUES_MAX; of one that is no JSON, whether it may take as long."""
    if len(body) <= VALUES_MAX or _marks(body) <= VALUES_MAX:
        return False
    # Commas in long texts are none of values. Each pair of quotes that are not escaped is a value or a name.
    strings = (body.count(b'"') - body.count(b'\\"')) // 2
    return strings > 2 * VALUES_MAX or _marks(_STRINGS.sub(b"", body)) > VALUES_MAX


def _marks(text: bytes | bytearray) -> int:
    return text.count(b",") + text.count(b"[") + text.count(b"{")
