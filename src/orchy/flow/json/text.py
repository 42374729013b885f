"""JSON text: parsed fast if it is valid, explained exactly if it is not.

Values from `parse_json` can be encoded as JSON again, their numbers fit a double, they are nested no deeper than
`JSON_DEPTH_MAX`, and no repeated key has been dropped silently.
"""

from __future__ import annotations

import json
import math
import re
from bisect import bisect_left
from collections.abc import Collection, Iterator
from itertools import accumulate

import msgspec

from orchy.errors import InvalidInput, Problem
from orchy.flow.definition import JSON
from orchy.flow.json.scan import JSON_DEPTH_MAX, Place, Scan, SyntaxProblem, Where, scan

#: A number with this many digits may be too large for a double.
_LONG_DIGITS = re.compile(rb"[0-9]{300}")
_STRINGS = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_NOT_MARKS = bytes(byte for byte in range(256) if byte not in b"[]{}:")
#: Repeated keys are found by parsing twice up to this size; above, by counting keys, which takes less memory.
_SHORT_BYTES_MAX = 64 * 1024
_PART_BYTES = 64 * 1024
_DEPTH_OF_BRACKET = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


def parse_json(text: bytes | str) -> JSON:
    """The value that a JSON text holds. Raises InvalidInput, with line and column in its problem."""
    value, problems = read_json(text)
    if problems:
        first = problems[0]
        raise InvalidInput(f"not valid JSON: {first.message} (line {first.line}, column {first.column})", problems)
    return value


def read_json(text: bytes | str) -> tuple[JSON, tuple[Problem, ...]]:
    """The value that a JSON text holds, or what is wrong with the text."""
    try:
        raw = text.encode() if isinstance(text, str) else text
    except UnicodeEncodeError as error:
        assert isinstance(text, str)
        return None, (_problem(text, SyntaxProblem("the text has half of a surrogate pair", error.start)),)
    try:
        value = _decode(raw)
    except (_Suspect, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        try:
            decoded = raw.decode()
        except UnicodeDecodeError as error:
            before = raw[: error.start].decode()
            problem = SyntaxProblem(f"the byte 0x{raw[error.start]:02x} is not UTF-8", len(before))
            return None, (_problem(before, problem),)
        found = scan(decoded)
        problems = tuple(_problem(decoded, problem) for problem in syntax_problems(found))
        # Many digits only make a text suspect: without a problem it is valid.
        return (None, problems) if problems else (msgspec.json.decode(raw), ())
    return value, ()


def syntax_problems(found: Scan) -> tuple[SyntaxProblem, ...]:
    """All that is wrong with a scanned text, in order."""
    return found.repeated if found.error is None else (*found.repeated, found.error)


def locate(text: str, wanted: Collection[Where]) -> dict[Where, Place]:
    """Where the wanted values are in a valid text."""
    return scan(text, wanted).places


class Lines:
    """Lines and columns of a text, for repeated lookups."""

    def __init__(self, text: str) -> None:
        self._ends = [match.start() for match in re.finditer("\n", text)]

    def place(self, offset: int) -> tuple[int, int]:
        """Line and column of a character, both from 1."""
        line = bisect_left(self._ends, offset)
        return line + 1, offset - (self._ends[line - 1] if line else -1)


def line_and_column(text: str, offset: int) -> tuple[int, int]:
    """Line and column of a character, both from 1."""
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)


def offset_in_string(text: str, string_at: int, index: int) -> int:
    """The offset in a JSON text of a character of a string, whose opening quote is at `string_at`."""
    at = string_at + 1
    for _ in range(index):
        match = _CHARACTER.match(text, at)
        if match is None:  # its end
            break
        at = match.end()
    return at


def pointer(where: Where) -> str:
    """The JSON pointer (RFC 6901) to a value."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in where)


def not_json(value: JSON) -> Iterator[tuple[Where, str]]:
    """The parts of a Python value that JSON can't represent, and why."""
    left: list[tuple[Where, JSON]] = [((), value)]
    while left:
        where, item = left.pop()
        problem = _not_json(item, len(where))
        if problem is not None:
            yield where, problem
        elif isinstance(item, list):
            left.extend(((*where, index), part) for index, part in reversed(list(enumerate(item))))
        elif isinstance(item, dict):
            parts = []
            for key, part in item.items():
                if isinstance(key, str) and _encodable(key):
                    parts.append(((*where, key), part))
                else:
                    yield where, f"the key {key!r} is not a text"
            left.extend(reversed(parts))


def _not_json(item: JSON, depth: int) -> str | None:
    if isinstance(item, list | dict):
        return f"lists and objects are nested deeper than {JSON_DEPTH_MAX}" if depth >= JSON_DEPTH_MAX else None
    if isinstance(item, str):
        return None if _encodable(item) else "the text has half of a surrogate pair"
    if item is None or isinstance(item, bool):
        return None
    if isinstance(item, int | float):
        try:
            return None if math.isfinite(item) else f"{item!r} is not a JSON value"
        except OverflowError:
            return "the number is too large"
    return f"{type(item).__name__} is not a JSON type"


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


#: One character of a string as written; a surrogate pair takes two escapes.
_CHARACTER = re.compile(
    r"""\\u[dD][89abAB][0-9a-fA-F]{2}\\u[0-9a-fA-F]{4} | \\u[0-9a-fA-F]{4} | \\. | [^"\\]""", re.VERBOSE | re.DOTALL
)


class _Suspect(Exception):
    """The text needs a slow scan."""


def _decode(raw: bytes) -> JSON:
    marks = None
    if len(raw) > _SHORT_BYTES_MAX or raw.count(b"[") + raw.count(b"{") > JSON_DEPTH_MAX:
        marks = _STRINGS.sub(b"", raw).translate(None, _NOT_MARKS)
        if _depth(marks.translate(None, b":")) > JSON_DEPTH_MAX:
            raise _Suspect
    value = msgspec.json.decode(raw)
    if _LONG_DIGITS.search(raw) is not None:
        raise _Suspect
    if raw.count(b":") > 1:
        # msgspec silently keeps the last of two equal keys.
        if marks is None or len(raw) <= _SHORT_BYTES_MAX:
            _UNIQUE_KEYS_DECODER.decode(raw.decode())
        elif marks.count(b":") != _count_keys(value):
            raise _Suspect
    return value


def _depth(brackets: bytes) -> int:
    """How deep brackets are nested. Works in chunks: there may be millions, and other threads need the GIL."""
    depth = deepest = 0
    for at in range(0, len(brackets), _PART_BYTES):
        depths = list(accumulate(map(_DEPTH_OF_BRACKET.__getitem__, brackets[at : at + _PART_BYTES]), initial=depth))
        depth, deepest = depths[-1], max(deepest, max(depths))
    return deepest


def _count_keys(value: JSON) -> int:
    count = 0
    left = [value]
    while left:
        item = left.pop()
        if isinstance(item, dict):
            count += len(item)
            left.extend(item.values())
        elif isinstance(item, list):
            left.extend(item)
    return count


def _refuse_repeated(pairs: list[tuple[str, JSON]]) -> None:
    if len(dict(pairs)) != len(pairs):
        raise _Suspect


_UNIQUE_KEYS_DECODER = json.JSONDecoder(object_pairs_hook=_refuse_repeated)


def _problem(text: str, problem: SyntaxProblem) -> Problem:
    return Problem(problem.message, pointer(problem.where), *line_and_column(text, problem.offset))
