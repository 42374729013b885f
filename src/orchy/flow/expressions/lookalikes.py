"""Text that looks like an expression but is not: `${input.x}`, `{{input.x}}` and `$.input.x`, as in other tools.

It is taken literally, which is rarely what the author meant, so validation warns of it. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import attrs

from orchy.flow.definition import JSON
from orchy.flow.expressions.templates import NO_TEXT, literals_of
from orchy.flow.json.scan import Where

_SHOWN_CHARS = 80
_INSIDE = rf"[^{{}}{NO_TEXT}]{{1,200}}"
_STEPS = r"(?:\.[\w*-]{1,100}|\[[^\[\]]{1,100}\]){0,100}"
_PATTERNS = (
    re.compile(rf"\$\{{({_INSIDE})\}}"),  # ${input.x}
    re.compile(rf"\{{\{{({_INSIDE})\}}\}}"),  # {{input.x}}
    re.compile(rf"(?<![\w{{$])\$(\.?(?:input|[1-9]\d{{0,9}}\.output)\b{_STEPS})"),  # $.input.x within a longer text
)
#: {{$.input.x}}, whose `{{$` is an escape and has become `{$`.
_ESCAPED = re.compile(rf"\{{\$({_INSIDE})\}}\}}")
#: Nothing but a path: $.x, $['x']. An amount of money such as $.50 does not match.
_BARE = re.compile(rf"\$((?:\.[A-Za-z_][\w-]{{0,100}}|\[[^\[\]]{{1,100}}\]){_STEPS})")
_PATH = re.compile(r"[\w.\[\]'\"*-]+")


@attrs.frozen
class Lookalike:
    """A piece of text, and the expression that was probably meant."""

    text: str
    meant: str

    def __str__(self) -> str:
        shown = self.text if len(self.text) <= _SHOWN_CHARS else self.text[:_SHOWN_CHARS] + "..."
        return f"{shown!r} looks like an expression but is taken literally; write {self.meant}"


def lookalikes_in(value: JSON) -> Iterator[tuple[Lookalike, Where]]:
    """The first lookalike in each string of a JSON value."""
    left: list[tuple[JSON, Where]] = [(value, ())]
    while left:
        item, where = left.pop()
        if isinstance(item, str):
            found = _lookalike_in(item)
            if found is not None:
                yield found, where
        elif isinstance(item, list):
            left.extend((part, (*where, index)) for index, part in reversed(list(enumerate(item))))
        elif isinstance(item, Mapping):
            left.extend((part, (*where, key)) for key, part in reversed(list(item.items())))


def _lookalike_in(text: str) -> Lookalike | None:
    if "$" not in text and "{{" not in text:
        return None
    literal = literals_of(text)
    escaped = _ESCAPED.search(literal)
    if escaped is not None:
        return Lookalike("{" + escaped[0], _token(escaped[1]))
    bare = _BARE.fullmatch(literal.strip())
    if bare is not None:
        return Lookalike(bare[0], _token(bare[1]))
    found = [match for pattern in _PATTERNS if (match := pattern.search(literal)) is not None]
    if not found:
        return None
    first = min(found, key=lambda match: match.start())
    return Lookalike(first[0], _token(first[1]))


def _token(inside: str) -> str:
    """The expression that was probably meant. A bare name is taken for a key of the input."""
    path = inside.strip().removeprefix("$").removeprefix(".")
    if not _PATH.fullmatch(path):
        return "{$.input.NAME}"
    if path.startswith("["):
        return f"{{${path}}}"
    first = path.partition(".")[0].partition("[")[0]
    return f"{{$.{path}}}" if first == "input" or first.isdigit() else f"{{$.input.{path}}}"
