"""Expressions: templates in parameters and switches, and the context that they are resolved in.

A token is ``{$.path}`` or ``{$['key']...}`` anywhere in a string; ``{$1.output.x}`` is short for ``{$.1.output.x}``,
and ``{{$`` is a literal ``{$``. A string that is exactly one token resolves to the value with its type; in a longer
string, values are inserted as text (`as_text`). `paths` defines what may follow the `$`. Keys of objects are not
templates.

A path that finds nothing resolves to None and is reported as missing; a null that is found is not. A path that can find
several values resolves to a list, even of none or one. Resolving raises only OverBudget (see `budget`).

Values are shared with the flow and the definition, never copied: JSON values are never mutated once they are in either.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any, TypeAlias

import attrs
import msgspec

from orchy.flow.budget import OUTPUT_VALUES_MAX, Meter, OverBudget, count_values
from orchy.flow.definition import JSON
from orchy.flow.execution import Finished
from orchy.flow.expressions.paths import Path, PathError, compile_path
from orchy.flow.json.scan import Where
from orchy.flow.runs import RunId, parse_run
from orchy.flow.system import Context

#: How many compiled texts are cached.
TEXTS_CACHED_MAX = 10_000
#: A value without tokens is not metered up to this size of its JSON text.
FREE_BYTES_MAX = 256
#: When numbers are written with an exponent: from this size on, or with more than this many zeros after the point.
_PLAIN_NUMBER_MAX = 1e21
_PLAIN_DIGITS_MAX = 21
_PLAIN_ZEROS_MAX = 5
_SHOWN_CHARS = 80
_SIMPLE_TOKEN = re.compile(r"\{\$[^\[\](){}]*+\}")
#: Replaces each token in `literals_of`.
NO_TEXT = "\0"
#: A run that no action has, as ids of actions are positive.
_NO_RUN_ID = RunId(0)


class ExpressionProblem(ValueError):
    """An invalid token. `where` leads to its string in the compiled value."""

    def __init__(self, message: str, where: Where = ()) -> None:
        super().__init__(message)
        self.where = where


@attrs.frozen
class Token:
    """One path of a template. `text` is the source, with its braces."""

    text: str
    path: Path

    def resolve(self, context: Context, missing: list[str]) -> JSON:
        """The value; a path that finds nothing is added to `missing`. Raises OverBudget."""
        try:
            value, found = self.path.find(context)
            if isinstance(value, str):  # scalars are covered by the fixed cost of the template
                context.meter.write(value)
            elif isinstance(value, list | dict):
                self._charge(value, context)
        except OverBudget as over:
            raise OverBudget(f"the expression {_shown(self.text)} {over}") from None
        if not found:
            missing.append(self.text)
        return value

    def text_of(self, context: Context, missing: list[str]) -> str:
        """The value as part of a longer text. Raises OverBudget."""
        try:
            value, found = self.path.find(context)
            if self.path.many and value is not None:
                self._charge(value, context)
            text = as_text(value)
            context.meter.write(text)
        except OverBudget as over:
            raise OverBudget(f"the expression {_shown(self.text)} {over}") from None
        if not found:
            missing.append(self.text)
        return text

    def _charge(self, value: Any, context: Context) -> None:
        if self.path.many:
            context.meter.put_each(value)
        else:
            context.meter.put(value)


@attrs.frozen
class _Constant:
    value: JSON

    def resolve(self, context: Context, missing: list[str]) -> JSON:
        return self.value


@attrs.frozen
class _Text:
    parts: tuple[str | Token, ...]

    def resolve(self, context: Context, missing: list[str]) -> JSON:
        return "".join(part if isinstance(part, str) else part.text_of(context, missing) for part in self.parts)


@attrs.frozen
class _List:
    items: tuple[_Node, ...]

    def resolve(self, context: Context, missing: list[str]) -> JSON:
        return [item.resolve(context, missing) for item in self.items]


@attrs.frozen
class _Object:
    fields: tuple[tuple[str, _Node], ...]

    def resolve(self, context: Context, missing: list[str]) -> JSON:
        return {key: item.resolve(context, missing) for key, item in self.fields}


_Node: TypeAlias = Token | _Constant | _Text | _List | _Object


@attrs.frozen
class Template:
    """A JSON value with tokens in its strings. Make it with `compile_template`.

    `_fixed_bytes` and `_fixed_values` are what its own text adds to each result. A small constant is `_free`.
    """

    _node: _Node
    _fixed_bytes: int
    _fixed_values: int
    _free: bool = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "_free", self.constant and self._fixed_bytes <= FREE_BYTES_MAX)

    @property
    def constant(self) -> bool:
        """Whether it has no tokens and so is the same in every context."""
        return isinstance(self._node, _Constant)

    def resolve(self, context: Context) -> tuple[JSON, tuple[str, ...]]:
        """The value in a context, and the tokens whose paths found nothing. Raises OverBudget."""
        if self._free:
            return self._node.resolve(context, []), ()
        missing: list[str] = []
        context.meter.begin(self._fixed_bytes, self._fixed_values)
        return self._node.resolve(context, missing), tuple(missing)


def compile_template(value: JSON) -> Template:
    """Compile the tokens in all strings of a JSON value. Raises ExpressionProblem for the first invalid one."""
    node = _compile(value, ())
    if isinstance(node, Token):
        return Template(node, 0, 0)
    return Template(node, len(msgspec.json.encode(value)), count_values([value], OUTPUT_VALUES_MAX))


def _compile(value: JSON, where: Where) -> _Node:
    if isinstance(value, str):
        try:
            return _compile_text(value)
        except ExpressionProblem as error:
            raise ExpressionProblem(str(error), where) from None
    if isinstance(value, list):
        items = tuple(_compile(item, (*where, index)) for index, item in enumerate(value))
        if all(isinstance(item, _Constant) for item in items):
            return _Constant([item.value for item in items if isinstance(item, _Constant)])
        return _List(items)
    if isinstance(value, Mapping):
        fields = tuple((key, _compile(item, (*where, key))) for key, item in value.items())
        if all(isinstance(item, _Constant) for _, item in fields):
            return _Constant({key: item.value for key, item in fields if isinstance(item, _Constant)})
        return _Object(fields)
    return _Constant(value)


@lru_cache(TEXTS_CACHED_MAX)
def _compile_text(text: str) -> _Node:
    parts = []
    for part in _parts_of(text):
        if isinstance(part, ExpressionProblem):
            raise part
        parts.append(part)
    if len(parts) == 1 and isinstance(parts[0], Token):
        return parts[0]
    if not any(isinstance(part, Token) for part in parts):
        return _Constant("".join(part for part in parts if isinstance(part, str)))
    return _Text(tuple(parts))


def expression_problems(value: JSON) -> Iterator[ExpressionProblem]:
    """Every invalid token in a JSON value."""
    for part, where in _all_parts(value):
        if isinstance(part, ExpressionProblem):
            yield ExpressionProblem(str(part), where)


def tokens_in(value: JSON) -> Iterator[tuple[Token, Where]]:
    """Every valid token in a JSON value, and where its string is."""
    for part, where in _all_parts(value):
        if isinstance(part, Token):
            yield part, where


def literals_of(text: str) -> str:
    """The literal parts of a text, with each token replaced by NO_TEXT."""
    return "".join(part if isinstance(part, str) else NO_TEXT for part in _parts_of(text))


def _all_parts(value: JSON) -> Iterator[tuple[str | Token | ExpressionProblem, Where]]:
    left: list[tuple[JSON, Where]] = [(value, ())]
    while left:
        item, where = left.pop()
        if isinstance(item, str):
            for part in _parts_of(item):
                yield part, where
        elif isinstance(item, list):
            left.extend((part, (*where, index)) for index, part in reversed(list(enumerate(item))))
        elif isinstance(item, Mapping):
            left.extend((part, (*where, key)) for key, part in reversed(list(item.items())))


def _parts_of(text: str) -> Iterator[str | Token | ExpressionProblem]:
    """The literal parts, tokens and problems of a text, in order."""
    at = 0
    while (start := text.find("{$", at)) >= 0:
        if start > at and text[start - 1] == "{":
            yield text[at : start - 1] + "{$"
            at = start + 2
            continue
        if start > at:
            yield text[at:start]
        end = _end_of_token(text, start)
        if end is None:
            yield ExpressionProblem(f"{_shown(text[start:])} has no closing brace; write {{{{$ for a literal {{$")
            return
        token = text[start:end]
        try:
            yield Token(token, compile_path(token[1:-1].strip()))
        except PathError as error:
            yield ExpressionProblem(f"{_shown(token)} {error}")
        at = end
    if at < len(text) or not text:
        yield text[at:]


def _end_of_token(text: str, start: int) -> int | None:
    """The index after the token's closing brace, which is neither in brackets nor in quotes within brackets."""
    simple = _SIMPLE_TOKEN.match(text, start)
    if simple is not None:
        return simple.end()
    quote = ""
    depth = 0
    at = start + 2
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
    return None


def _shown(token: str) -> str:
    return repr(token if len(token) <= _SHOWN_CHARS else token[:_SHOWN_CHARS] + "...")


def as_text(value: JSON) -> str:
    """A value as part of a longer text, or as the outcome of a switch.

    Strings as they are, numbers as in JavaScript, `true` and `false`, null as the empty text, lists and objects as
    compact JSON.
    """
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, float):
        return _number_text(value)
    return msgspec.json.encode(value).decode()


def _number_text(number: float) -> str:
    """A number as JavaScript writes it: ECMA-262, Number::toString, with the shortest digits that round-trip."""
    if number.is_integer() and abs(number) < _PLAIN_NUMBER_MAX:
        return str(int(number))
    mantissa, _, exponent = f"{Decimal(repr(abs(number))):e}".lower().partition("e")
    digits = mantissa.replace(".", "").rstrip("0")
    sign = "-" if number < 0 else ""
    point = int(exponent) + 1  # the number is 0.<digits> x 10^point
    if 0 < point <= _PLAIN_DIGITS_MAX:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -_PLAIN_ZEROS_MAX <= point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    fraction = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{fraction}e{'+' if point > 0 else '-'}{abs(point - 1)}"


class FlowContext:
    """`$` of a flow: its input, and its finished actions by id. A view: it shows actions that finish later, too.

    `meter` counts what is evaluated in it; by default it has its own.
    """

    def __init__(self, flow_input: JSON, finished: Mapping[RunId, Finished], meter: Meter | None = None) -> None:
        self._input = flow_input
        self._finished = finished
        self.meter = meter or Meter()

    def has(self, key: str) -> bool:
        """Whether the context has this top-level key."""
        return key == "input" or _run_id(key) in self._finished

    def get(self, key: str) -> JSON:
        """The value of a top-level key; None if there is none."""
        if key == "input":
            return self._input
        done = self._finished.get(_run_id(key))
        return None if done is None else {"output": done.output}

    def as_json(self) -> dict[str, JSON]:
        """The whole context as a new dict whose values are shared with the flow."""
        whole: dict[str, JSON] = {"input": self._input}
        for run_id, done in self._finished.items():
            whole[str(run_id)] = {"output": done.output}
        return whole


@lru_cache(TEXTS_CACHED_MAX)
def _run_id(key: str) -> RunId:
    """The run that a key names, or _NO_RUN_ID. Only "1" names 1: not "01", "+1" or a digit of another script."""
    try:
        run_id = parse_run(key)
    except ValueError:
        return _NO_RUN_ID
    return run_id if str(run_id) == key else _NO_RUN_ID
