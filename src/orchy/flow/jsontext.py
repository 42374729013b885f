"""JSON text in, with the line and column of what is wrong with it.

Most text is fine: it is parsed by msgspec. `positions` reads it a second time, slowly, only when there is a problem
to be placed.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping

import msgspec

from orchy.errors import InvalidInput, Problem
from orchy.flow.definition import JSON

#: The deepest nesting of lists and objects that is taken.
DEPTH_MAX = 100

_SPACE = re.compile(r"[ \t\r\n]*")
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\.)*"', re.DOTALL)
_ATOM = re.compile(r"[^\s,:\[\]{}\"]+")


def parse_json(text: bytes | str) -> JSON:
    """The value of a JSON text. Raises InvalidInput with line and column.

    Not taken: what is not UTF-8, numbers that a double can't hold, keys that stand twice in an object, lone
    surrogates, nesting over DEPTH_MAX.
    """
    raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    try:
        decoded = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _invalid("the text is not UTF-8", raw[: error.start].decode("utf-8"), error.start) from None
    if _depth(decoded) > DEPTH_MAX:
        raise InvalidInput("the JSON is nested too deeply", [Problem(f"lists and objects nest more than {DEPTH_MAX} deep")])
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _placed(decoded, str(error)) from None
    if raw.count(b":") > _keys(value):
        # Perhaps only colons in strings; a look at each key tells.
        twice = [Problem(message, pointer, *place) for pointer, message, place in _duplicates(decoded)]
        if twice:
            raise InvalidInput("the JSON has keys that stand twice in an object", twice)
    return value


def _depth(text: str) -> int:
    """How deep brackets nest outside strings."""
    if text.count("[") + text.count("{") <= DEPTH_MAX:
        return 0
    depth = deepest = 0
    for match in re.finditer(r'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', text, re.DOTALL):
        mark = match[0]
        if mark in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif mark in "]}":
            depth -= 1
    return deepest


def _keys(value: JSON) -> int:
    if isinstance(value, dict):
        return len(value) + sum(map(_keys, value.values()))
    if isinstance(value, list):
        return sum(map(_keys, value))
    return 0


def _placed(text: str, reason: str) -> InvalidInput:
    """A syntax error, with its place as the standard library finds it."""
    try:
        json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        return _invalid(error.msg, text[: error.pos], error.pos)
    except (ValueError, RecursionError) as error:
        reason = str(error)
    return InvalidInput(f"the JSON is not valid: {reason}", [Problem(reason)])


def _refuse_constant(name: str) -> JSON:
    raise ValueError(f"{name} is not JSON")


def _invalid(message: str, before: str, position: int) -> InvalidInput:
    line, column = place(before)
    return InvalidInput(
        f"the JSON is not valid: {message} at line {line}, column {column}", [Problem(message, "", line, column)]
    )


def place(before: str) -> tuple[int, int]:
    """The line and column, from 1, of what follows `before`."""
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


def positions(text: str) -> Mapping[str, tuple[int, int]]:
    """Line and column of each value of a valid JSON text, by its JSON pointer."""
    found: dict[str, tuple[int, int]] = {}
    for pointer, start, _ in _walk(text):
        found.setdefault(pointer, place(text[:start]))
    return found


def _duplicates(text: str) -> Iterator[tuple[str, str, tuple[int, int]]]:
    seen: set[str] = set()
    for pointer, start, is_member in _walk(text):
        if is_member and pointer in seen:
            yield pointer, "this key stands in the object already", place(text[:start])
        seen.add(pointer)


def _walk(text: str) -> Iterator[tuple[str, int, bool]]:
    """(pointer, index, whether it is a member of an object) of each value of a valid JSON text, in order."""
    # One entry for each open list (its next index) or object (None), with its pointer.
    stack: list[tuple[str, int | None]] = []
    pointer, member = "", False
    at = 0
    while at < len(text):
        at = _end(_SPACE, text, at)
        if at >= len(text):
            return
        char = text[at]
        if char in "]}":
            stack.pop()
            at += 1
        elif char in ",":
            at += 1
        else:
            if stack:
                parent, index = stack[-1]
                if index is None:
                    key_end = _end(_STRING, text, at)
                    key = json.loads(text[at:key_end])
                    pointer, member = f"{parent}/{escape(key)}", True
                    at = _end(_SPACE, text, _end(_SPACE, text, key_end) + 1)
                    char = text[at]
                else:
                    pointer, member = f"{parent}/{index}", False
                    stack[-1] = (parent, index + 1)
            yield pointer, at, member
            if char in "[{":
                stack.append((pointer, 0 if char == "[" else None))
                at += 1
            else:
                at = _end(_STRING if char == '"' else _ATOM, text, at)


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    assert match is not None, "the text was valid"
    return match.end()


def escape(key: str) -> str:
    """A key as a part of a JSON pointer (RFC 6901 section 3)."""
    return key.replace("~", "~0").replace("/", "~1")


def finite(value: JSON) -> bool:
    """Whether a parsed value is a number that is finite."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
