"""A slow and exact JSON scanner: it locates values, and explains what is wrong with a text that does not parse.

Only for text that has a problem; `text` parses valid JSON fast. Strict RFC 8259, without recursion, down to a depth of
`JSON_DEPTH_MAX`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from typing import TypeAlias

import attrs
import msgspec

#: How deep lists and objects may be nested.
JSON_DEPTH_MAX = 100

#: How many repeated keys of one text are reported.
REPEATED_KEYS_MAX = 100

#: The keys and indexes that lead from the root of the document to a value.
Where: TypeAlias = tuple[str | int, ...]


@attrs.frozen
class Place:
    """The offsets of a value and of its key; for an item of a list, both are the value's."""

    value: int
    key: int


@attrs.frozen
class SyntaxProblem:
    """What is wrong with a text, and at which character, from 0."""

    message: str
    offset: int
    where: Where = ()


@attrs.frozen
class Scan:
    """The result of a scan.

    `places` locates the wanted values that exist (the last one if a key is repeated); `repeated` has the repeated keys
    of objects, at most REPEATED_KEYS_MAX. With an `error`, both cover the text up to it.
    """

    places: dict[Where, Place]
    repeated: tuple[SyntaxProblem, ...] = ()
    error: SyntaxProblem | None = None


class _ScanError(Exception):
    """The text is not JSON from this offset on."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


_TOKEN = re.compile(
    r"""[ \t\n\r]*+(?:
        (?P<mark>[{}\[\],:])
      | (?P<string>"(?:[^"\\\x00-\x1f]++|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*+")
      | (?P<number>-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?)(?![0-9.eE])
      | (?P<word>true|false|null)(?!\w)
      | (?P<end>\Z)
      | (?P<wrong>.))""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})')
_CONSTANT = re.compile(r"-?(?:NaN|nan|Infinity|inf)\b")
_WORD = re.compile(r"[\w.+-]+")


@attrs.define
class _Open:
    """An object or a list that is not closed yet. `keys` is None for a list."""

    keys: set[str] | None
    count: int = 0


def scan(text: str, wanted: Collection[Where] = ()) -> Scan:
    """Scan a text to its end or its first error, and locate the `wanted` values."""
    scanner = _Scanner(text, wanted)
    try:
        scanner.document()
    except _ScanError as wrong:
        error = SyntaxProblem(str(wrong), wrong.offset)
        return Scan(scanner.places, tuple(scanner.repeated), error)
    return Scan(scanner.places, tuple(scanner.repeated))


class _Scanner:
    """A single scan of a text."""

    def __init__(self, text: str, wanted: Collection[Where]) -> None:
        self.text = text
        self.wanted = wanted
        self.places: dict[Where, Place] = {}
        self.repeated: list[SyntaxProblem] = []
        self.stack: list[_Open] = []
        self.path: list[str | int] = []
        self.at = 0
        self.start = 0

    def document(self) -> None:
        """One value and nothing after it."""
        kind, token = self.token()
        if kind == "end":
            raise _ScanError("the text is empty", 0)
        self.value(kind, token, self.start)
        while self.stack:
            self.step(self.stack[-1])
        kind, _ = self.token()
        if kind != "end":
            raise self.unexpected("the end of the text")

    def step(self, top: _Open) -> None:
        """Read the next member or item of the innermost open container, or its end."""
        kind, token = self.token()
        close = "]" if top.keys is None else "}"
        if token == close and kind == "mark":
            self.stack.pop()
            return
        if top.count:
            if token != "," or kind != "mark":
                raise self.unexpected(f"',' or '{close}'")
            kind, token = self.token()
            if token == close and kind == "mark":
                raise _ScanError(f"a comma stands before '{close}'", self.start)
        depth = len(self.stack)
        key_at = self.start
        if top.keys is None:
            self.path[depth - 1 :] = [top.count]
        else:
            if kind != "string":
                raise self.unexpected("a key in double quotes")
            key = self.decoded(token)
            self.path[depth - 1 :] = [key]
            if key in top.keys and len(self.repeated) < REPEATED_KEYS_MAX:
                self.repeated.append(SyntaxProblem(f"the key {key!r} is there twice", key_at, tuple(self.path)))
            top.keys.add(key)
            kind, token = self.token()
            if token != ":" or kind != "mark":
                raise self.unexpected("':'")
            kind, token = self.token()
        top.count += 1
        self.value(kind, token, key_at)

    def value(self, kind: str, token: str, key_at: int) -> None:
        """Read a value whose first token has been read."""
        where = tuple(self.path[: len(self.stack)])
        if where in self.wanted:
            self.places[where] = Place(self.start, self.start if not where or isinstance(where[-1], int) else key_at)
        if kind == "mark" and token in "{[":
            if len(self.stack) >= JSON_DEPTH_MAX:
                raise _ScanError(f"lists and objects are nested deeper than {JSON_DEPTH_MAX}", self.start)
            self.stack.append(_Open(set() if token == "{" else None))
        elif kind == "string":
            self.decoded(token)
        elif kind == "number":
            if not math.isfinite(float(token)):
                raise _ScanError("the number is too large", self.start)
        elif kind != "word":
            raise self.unexpected("a value")

    def token(self) -> tuple[str, str]:
        match = _TOKEN.match(self.text, self.at)
        assert match is not None, "the last alternatives match anything"
        kind = match.lastgroup
        assert kind is not None
        self.at = match.end()
        self.start = match.start(kind)
        return kind, match.group(kind)

    def decoded(self, token: str) -> str:
        """The string that a token stands for. The only error left here is half of a surrogate pair."""
        if "\\" not in token:
            return token[1:-1]
        try:
            return msgspec.json.decode(token, type=str)
        except msgspec.DecodeError:
            raise _ScanError("the string has half of a surrogate pair (\\ud800 to \\udfff)", self.start) from None

    def unexpected(self, expected: str) -> _ScanError:
        """The error for a token at `start` other than the expected one."""
        text, start = self.text, self.start
        if start >= len(text):
            return _ScanError(f"the text ends where {expected} is expected", start)
        char = text[start]
        if char == '"' and self.at == start + 1:
            return self.string_error()
        constant = _CONSTANT.match(text, start)
        if constant is not None:
            return _ScanError(f"{constant.group()} is not a JSON value", start)
        if char == "\ufeff":
            return _ScanError("the text has a byte order mark", start)
        word = _WORD.match(text, start)
        shown = char if word is None else word.group()[:40]
        return _ScanError(f"{expected} is expected, not {shown!r}", start)

    def string_error(self) -> _ScanError:
        """The error for a string whose opening quote is at `start`."""
        text, at = self.text, self.start + 1
        while at < len(text):
            char = text[at]
            if char < " ":
                return _ScanError(f"a string can't hold the control character {char!r}: escape it", at)
            if char == "\\" and at + 1 < len(text):
                if _ESCAPE.match(text, at) is None:
                    return _ScanError(f"the escape {text[at : at + 2]!r} is not one of JSON's", at)
                at += 1
            at += 1
        return _ScanError("a string has no closing quote", self.start)
