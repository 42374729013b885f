"""Texts that look like expressions and are none: `${input.x}`, `{{input.x}}` and `$.input.x` as other tools write them.

They are taken literally, which is hardly what was meant: `$.input.x` is that very text. Pure.
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
_LOOKS = (
    re.compile(rf"\$\{{({_INSIDE})\}}"),  # ${input.x}
    re.compile(rf"\{{\{{({_INSIDE})\}}\}}"),  # {{input.x}}
    re.compile(rf"(?<![\w{{$])\$(\.?(?:input|[1-9]\d{{0,9}}\.output)\b{_STEPS})"),  # $.input.x in a longer text
)
#: {{$.input.x}}, of which `{{$` is left as `{$`.
_ESCAPED = re.compile(rf"\{{\$({_INSIDE})\}}\}}")
#: Nothing but a path: $.x, $['x']. An amount of money such as $.50 is none.
_BARE = re.compile(rf"\$((?:\.[A-Za-z_][\w-]{{0,100}}|\[[^\[\]]{{1,100}}\]){_STEPS})")
_PATH = re.compile(r"[\w.\[\]'\"*-]+")


@attrs.frozen
class Lookalike:
    """A piece of a text, and what was probably meant by it."""

    text: str
    meant: str

    def __str__(self) -> str:
        shown = self.text if len(self.text) <= _SHOWN_CHARS else self.text[:_SHOWN_CHARS] + "..."
        return f"{shown!r} looks like an expression but is taken literally; write {self.meant}"


def lookalikes_in(value: JSON) -> Iterator[tuple[Lookalike, Where]]:
    """Of each string in a JSON value the first piece that looks like an expression and is none."""
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
    found = [match for look in _LOOKS if (match := look.search(literal)) is not None]
    if not found:
        return None
    first = min(found, key=lambda match: match.start())
    return Lookalike(first[0], _token(first[1]))


def _token(inside: str) -> str:
    """The expression that was probably meant: a name alone is one of the input."""
    path = inside.strip().removeprefix("$").removeprefix(".")
    if not _PATH.fullmatch(path):
        return "{$.input.NAME}"
    if path.startswith("["):
        return f"{{${path}}}"
    first = path.partition(".")[0].partition("[")[0]
    return f"{{$.{path}}}" if first == "input" or first.isdigit() else f"{{$.input.{path}}}"
