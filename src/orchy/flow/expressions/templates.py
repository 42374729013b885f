"""Expressions: templates in parameters and switches, and what they are resolved in.

A token is ``{$.path}`` or ``{$['key']...}`` anywhere in a string; ``{$1.output.x}`` is read as ``{$.1.output.x}`` and
``{{$`` writes a literal ``{$``. A string that is one token and nothing else takes the value with its type; in a
longer one values are inserted as text (`as_text`). What may stand after the `$` is `paths`' to say. Keys of objects
are no templates.

A path that finds nothing gives None and is reported; a null that is found is not. A path that can find several values
gives a list, also of none or one. Resolving raises nothing but OverBudget, for what takes or makes too much (`budget`).

Values are shared with the flow and with the definition, never copied: JSON values are not changed once they are in
one of them.
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

#: How many different texts are kept compiled for whoever compiles them again.
TEXTS_CACHED_MAX = 10_000
#: A value of so much JSON text that has no token is not counted.
FREE_BYTES_MAX = 256
#: Numbers from here on are written with an exponent; so are those with more zeros than these right after the point.
_PLAIN_NUMBER_MAX = 1e21
_PLAIN_DIGITS_MAX = 21
_PLAIN_ZEROS_MAX = 5
_SHOWN_CHARS = 80
_SIMPLE_TOKEN = re.compile(r"\{\$[^\[\](){}]*+\}")
#: Stands for each token in `literals_of`.
NO_TEXT = "\0"
#: Ids of actions are positive.
_NO_RUN_ID = RunId(0)


class ExpressionProblem(ValueError):
    """A token that is not one. Its text says what is wrong; `where` leads to its string in the compiled value."""

    def __init__(self, message: str, where: Where = ()) -> None:
        super().__init__(message)
        self.where = where


@attrs.frozen
class Token:
    """One path of a template, with its braces as they were written."""

    text: str
    path: Path

    def resolve(self, context: Context, missing: list[str]) -> JSON:
        """The value; a path that finds nothing is added to `missing`. Raises OverBudget."""
        try:
            value, found = self.path.find(context)
            if isinstance(value, str):  # a value that is neither is paid for with the template's own
                context.meter.write(value)
            elif isinstance(value, list | dict):
                self._pay_for(value, context)
        except OverBudget as over:
            raise OverBudget(f"the expression {_shown(self.text)} {over}") from None
        if not found:
            missing.append(self.text)
        return value

    def text_of(self, context: Context, missing: list[str]) -> str:
        """The value in the middle of a text. Raises OverBudget."""
        try:
            value, found = self.path.find(context)
            if self.path.many and value is not None:
                self._pay_for(value, context)
            text = as_text(value)
            context.meter.write(text)
        except OverBudget as over:
            raise OverBudget(f"the expression {_shown(self.text)} {over}") from None
        if not found:
            missing.append(self.text)
        return text

    def _pay_for(self, value: Any, context: Context) -> None:
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

    The `fixed` ones are what its own text adds to each result. What is small and has no token is `free`.
    """

    _node: _Node
    _fixed_bytes: int
    _fixed_values: int
    _free: bool = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "_free", self.constant and self._fixed_bytes <= FREE_BYTES_MAX)

    @property
    def constant(self) -> bool:
        """Whether it has no token, so that it is the same in each context."""
        return isinstance(self._node, _Constant)

    def resolve(self, context: Context) -> tuple[JSON, tuple[str, ...]]:
        """The value in a context, and the tokens whose paths found nothing. Raises OverBudget."""
        if self._free:
            return self._node.resolve(context, []), ()
        missing: list[str] = []
        context.meter.begin(self._fixed_bytes, self._fixed_values)
        return self._node.resolve(context, missing), tuple(missing)


def compile_template(value: JSON) -> Template:
    """Compile the tokens in all strings of a JSON value. Raises ExpressionError for the first that is wrong."""
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
    """Every token in a JSON value that is none."""
    for part, where in _all_parts(value):
        if isinstance(part, ExpressionProblem):
            yield ExpressionProblem(str(part), where)


def tokens_in(value: JSON) -> Iterator[tuple[Token, Where]]:
    """Every sound token in a JSON value, and where its string is."""
    for part, where in _all_parts(value):
        if isinstance(part, Token):
            yield part, where


def literals_of(text: str) -> str:
    """What of a text is taken literally, each token replaced by NO_TEXT."""
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
    """The literal pieces, the tokens and the problems of a text, in order."""
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
    """The index after the brace that closes the token: one that is neither in brackets nor in quotes in brackets."""
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
    """A value in the middle of a text, and as the outcome of a switch.

    Strings as they are, numbers as in JavaScript, `true` and `false`, nothing for null, compact JSON for lists and
    objects.
    """
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, float):
        return _number_text(value)
    return msgspec.json.encode(value).decode()


def _number_text(number: float) -> str:
    """A number as JavaScript writes it: ECMA-262, Number::toString. The shortest digits that read as the number."""
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
    """`$` of a flow: its input, and its finished actions by id. A view: what is finished later is seen too.

    `meter` counts what is evaluated in it, by default by itself.
    """

    def __init__(self, flow_input: JSON, finished: Mapping[RunId, Finished], meter: Meter | None = None) -> None:
        self._input = flow_input
        self._finished = finished
        self.meter = meter or Meter()

    def has(self, key: str) -> bool:
        """Whether there is such a top-level key."""
        return key == "input" or _run_id(key) in self._finished

    def get(self, key: str) -> JSON:
        """The value of one top-level key, None where there is none."""
        if key == "input":
            return self._input
        done = self._finished.get(_run_id(key))
        return None if done is None else {"output": done.output}

    def as_json(self) -> dict[str, JSON]:
        """All of it, in a new dict whose values are the flow's own."""
        whole: dict[str, JSON] = {"input": self._input}
        for run_id, done in self._finished.items():
            whole[str(run_id)] = {"output": done.output}
        return whole


@lru_cache(TEXTS_CACHED_MAX)
def _run_id(key: str) -> RunId:
    """The run whose text a key is, else one that no action has. Only "1" is 1: not "01", "+1" or another script's 1."""
    try:
        run_id = parse_run(key)
    except ValueError:
        return _NO_RUN_ID
    return run_id if str(run_id) == key else _NO_RUN_ID
