"""Expressions: templates in parameters and switches, and the paths in them.

A token is ``{$.path}`` or ``{$['key']...}`` anywhere in a string; ``{$1.output.x}`` is read as ``{$.1.output.x}`` and
``{{$`` writes a literal ``{$``. A string that is one token and nothing else takes the value with its type; in a
longer one values are inserted as text (`as_text`). A path is JSONPath as `jsonpath_ng.ext` has it; one with a
filter, a wildcard, a slice or a descent gives a list. Most paths are plain keys and indexes: those are compiled to a
tuple and followed without the library.

A path that finds nothing gives None and is reported, also where a filter can't compare what it finds.

Values are shared with the flow, never copied: JSON values are not changed once they are in a flow.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final, Protocol, TypeAlias

import attrs
import msgspec
from jsonpath_ng.ext import parse as parse_jsonpath

from orchy.flow.definition import JSON
from orchy.flow.execution import Finished
from orchy.flow.system import Context

#: How many different paths are kept compiled.
COMPILED_MAX = 10_000

_MISSING: Final = object()


class ExpressionError(ValueError):
    """A token that is not one: says what is wrong and shows it."""


class Path(Protocol):
    """A compiled path."""

    def find(self, context: Context) -> JSON:
        """The value, or _MISSING."""
        ...


@attrs.frozen
class PlainPath:
    """Keys and indexes, one after the other. `steps` begins with the top-level key."""

    steps: tuple[str | int, ...]

    def find(self, context: Context) -> JSON:
        """The value, or _MISSING."""
        first, *rest = self.steps
        value = context.get(str(first))
        if value is None and not context.has(str(first)):
            return _MISSING
        for step in rest:
            if isinstance(value, dict):
                value = value.get(str(step), _MISSING)
            elif isinstance(value, list) and isinstance(step, int) and -len(value) <= step < len(value):
                value = value[step]
            else:
                return _MISSING
            if value is _MISSING:
                return _MISSING
        return value


@attrs.frozen
class QueryPath:
    """A path that the library has to follow. `many`: it gives a list of all that it finds."""

    query: JSON
    many: bool

    def find(self, context: Context) -> JSON:
        """The value, or _MISSING."""
        try:
            found = [match.value for match in self.query.find(context.as_json())]
        except (TypeError, ValueError, KeyError, IndexError, AttributeError):
            return _MISSING  # for instance a filter that compares a text with a number
        if self.many:
            return found
        return found[0] if found else _MISSING


@attrs.frozen
class Token:
    """One path of a template, with its text for the history."""

    text: str
    path: PlainPath | QueryPath


_Part: TypeAlias = str | Token


@attrs.frozen
class Template:
    """A JSON value with tokens in its strings. Make it with `compile_template`."""

    _node: _Node

    def resolve(self, context: Context) -> tuple[JSON, tuple[str, ...]]:
        """The value in a context, and the texts of the paths that found nothing."""
        missing: list[str] = []
        return _resolve(self._node, context, missing), tuple(missing)


@attrs.frozen
class _Constant:
    value: JSON


@attrs.frozen
class _Whole:
    token: Token


@attrs.frozen
class _Text:
    parts: tuple[_Part, ...]


@attrs.frozen
class _List:
    items: tuple[_Node, ...]


@attrs.frozen
class _Object:
    items: tuple[tuple[str, _Node], ...]


_Node: TypeAlias = _Constant | _Whole | _Text | _List | _Object


def compile_template(value: JSON) -> Template:
    """Compile the tokens in all strings of a JSON value. Raises ExpressionError."""
    return Template(_compile(value))


def _compile(value: JSON) -> _Node:
    if isinstance(value, str):
        return _compile_text(value)
    if isinstance(value, list | tuple):
        nodes = tuple(_compile(item) for item in value)
        return _List(nodes) if any(not isinstance(node, _Constant) for node in nodes) else _Constant(value)
    if isinstance(value, Mapping):
        items = tuple((key, _compile(item)) for key, item in value.items())
        return _Object(items) if any(not isinstance(node, _Constant) for _, node in items) else _Constant(value)
    return _Constant(value)


def _compile_text(text: str) -> _Node:
    parts = split_tokens(text)
    if len(parts) == 1 and isinstance(parts[0], Token):
        return _Whole(parts[0])
    if all(isinstance(part, str) for part in parts):
        return _Constant("".join(part for part in parts if isinstance(part, str)))
    return _Text(tuple(parts))


def _resolve(node: _Node, context: Context, missing: list[str]) -> JSON:
    match node:
        case _Constant(value):
            return value
        case _Whole(token):
            return _find(token, context, missing)
        case _Text(parts):
            return "".join(
                part if isinstance(part, str) else as_text(_find(part, context, missing)) for part in parts
            )
        case _List(items):
            return [_resolve(item, context, missing) for item in items]
        case _Object(fields):
            return {key: _resolve(item, context, missing) for key, item in fields}


def _find(token: Token, context: Context, missing: list[str]) -> JSON:
    value = token.path.find(context)
    if value is _MISSING:
        missing.append(token.text)
        return None
    return value


def as_text(value: JSON) -> str:
    """A value in the middle of a text: strings as they are, integral numbers without a fraction, nothing for null,
    compact JSON for lists and objects."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return msgspec.json.encode(value).decode()


# Tokens in a text.


def split_tokens(text: str) -> list[_Part]:
    """The literal pieces and the tokens of a text, in order. Raises ExpressionError."""
    parts: list[_Part] = []
    literal = ""
    at = 0
    while at < len(text):
        if text.startswith("{{$", at):
            literal += "{$"
            at += 3
        elif text.startswith("{$", at):
            end = _end_of_token(text, at)
            if literal:
                parts.append(literal)
                literal = ""
            parts.append(compile_token(text[at:end]))
            at = end
        else:
            literal += text[at]
            at += 1
    if literal or not parts:
        parts.append(literal)
    return parts


def _end_of_token(text: str, start: int) -> int:
    """The index after the brace that closes the token: not one in quotes or in brackets."""
    quote = ""
    depth = 0
    at = start + 1
    while at < len(text):
        char = text[at]
        if quote:
            if char == "\\":
                at += 1
            elif char == quote:
                quote = ""
        elif char in "'\"" and depth:
            quote = char
        elif char in "[(":
            depth += 1
        elif char in "])":
            depth -= 1
        elif char == "}" and depth <= 0:
            return at + 1
        at += 1
    raise ExpressionError(f"the expression {text[start : start + 60]!r} has no closing brace")


@lru_cache(COMPILED_MAX)
def compile_token(text: str) -> Token:
    """Compile one token, braces and all. Raises ExpressionError."""
    path = text[1:-1]
    plain = _plain_steps(path)
    if plain is not None:
        return Token(text, PlainPath(plain))
    try:
        query = parse_jsonpath(_normalised(path))
    except Exception as error:  # the library raises Exception itself, and its lexer's and parser's own kinds
        raise ExpressionError(f"the expression {text!r} is not a JSONPath: {error}") from None
    return Token(text, QueryPath(query, _gives_many(path)))


_PLAIN_STEP = re.compile(
    r"""\.?(?:(?<=\.)(?P<name>[^\s.\[\]'"{}*?@()$,:]+) | \[\s*(?P<index>-?\d+)\s*\]
        | \[\s*'(?P<single>(?:[^'\\]|\\.)*)'\s*\] | \[\s*"(?P<double>(?:[^"\\]|\\.)*)"\s*\])""",
    re.VERBOSE,
)


def _plain_steps(path: str) -> tuple[str | int, ...] | None:
    """The keys and indexes of a path that has nothing else, or None. `path` begins with $."""
    rest = path[1:]
    if rest and rest[0] not in ".[":
        rest = "." + rest
    steps: list[str | int] = []
    at = 0
    while at < len(rest):
        match = _PLAIN_STEP.match(rest, at)
        if match is None:
            return None
        name, index, single, double = match.group("name", "index", "single", "double")
        quoted = single if single is not None else double
        if index is not None:
            steps.append(int(index))
        else:
            steps.append(name if name is not None else re.sub(r"\\(.)", r"\1", quoted))
        at = match.end()
    return tuple(steps) or None


def _normalised(path: str) -> str:
    """As the library wants it: a dot after $, keys that are numbers in quotes."""
    if len(path) > 1 and path[1] not in ".[":
        path = "$." + path[1:]
    return re.sub(r"(?<=\.)(\d+)(?=[.\[]|$)", r"'\1'", path)


def _gives_many(path: str) -> bool:
    """Whether a path can find more than one thing: outside quotes it has a wildcard, filter, slice, union or descent."""
    bare = re.sub(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"", "", path)
    return any(mark in bare for mark in ("*", "?", ":", "..", ",", "|"))


# What a path is followed in.


class FlowContext:
    """`$` of a flow: its input, and its finished actions by id."""

    def __init__(self, input: JSON, finished: Mapping[int, Finished]) -> None:
        self._input = input
        self._finished = finished

    def has(self, key: str) -> bool:
        """Whether there is such a top-level key."""
        return key == "input" or self._action(key) is not None

    def get(self, key: str) -> JSON:
        """The value of one top-level key, None where there is none."""
        if key == "input":
            return self._input
        done = self._action(key)
        return None if done is None else {"output": done.output}

    def as_json(self) -> dict[str, JSON]:
        """All of it, in a new dict."""
        whole: dict[str, JSON] = {"input": self._input}
        for action_id, done in self._finished.items():
            whole[str(action_id)] = {"output": done.output}
        return whole

    def _action(self, key: str) -> Finished | None:
        # Only the text that an id itself has: "1", not "01" or "１".
        return self._finished.get(int(key)) if _ID.fullmatch(key) else None


_ID = re.compile(r"0|-?[1-9][0-9]{0,18}")
