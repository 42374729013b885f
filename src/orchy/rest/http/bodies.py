"""How many values a JSON body has, before it is parsed: ten megabytes of `[],` take seconds and 500 MB. Pure."""

from __future__ import annotations

import re

_STRINGS = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)


def has_too_many_values(body: bytes | bytearray, values_max: int) -> bool:
    """Whether a body has more than `values_max`; if it is not JSON, whether parsing it may take as long."""
    if len(body) <= values_max or _marks(body) <= values_max:
        return False
    # Commas inside strings separate no values. Each pair of unescaped quotes is a value or a key.
    strings = (body.count(b'"') - body.count(b'\\"')) // 2
    return strings > 2 * values_max or _marks(_STRINGS.sub(b"", body)) > values_max


def _marks(text: bytes | bytearray) -> int:
    return text.count(b",") + text.count(b"[") + text.count(b"{")
