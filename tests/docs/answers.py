"""Whether an answer is what a page shows: the same, but for times, ids, and what the page leaves out with `...`.

An id that a page shows stands for the one that came: `Ids` remembers the pairs, so that a page may go on to use it.
"""

from __future__ import annotations

import json
import re
from typing import Any

import attrs

UUID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b")
TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?")
LEFT_OUT = "..."


class Differs(Exception):
    """An answer that is not the one on the page."""


@attrs.define
class Ids:
    """Which id came where a page shows which."""

    real: dict[str, str] = attrs.field(factory=dict)

    def pair(self, shown: str, came: str) -> None:
        """Take note. Raises Differs if the page showed the same id for another one."""
        if self.real.setdefault(shown, came) != came:
            raise Differs(f"the page shows {shown} for {self.real[shown]} and for {came}")

    def fill_in(self, text: str) -> str:
        """The text with the ids that came instead of those shown."""
        return UUID.sub(lambda match: self.real.get(match[0], match[0]), text)


def compare(shown: str, came: str, ids: Ids) -> Ids:
    """The ids known after this answer. Raises Differs."""
    known = Ids(dict(ids.real))
    pattern = _read_json(shown)
    if pattern is not None:
        try:
            value = json.loads(came)
        except ValueError:
            raise Differs(f"it is not JSON: {came!r}") from None
        _compare_values(pattern, value, known, "$")
    else:
        _compare_text(shown, came, known)
    return known


def _read_json(shown: str) -> Any:
    """What a page shows as a value in which `...` is left out; None if it is no JSON."""
    if not shown.lstrip().startswith(("{", "[", '"')):
        return None
    out, opened, before = [], [], ""
    for token in re.findall(r'"(?:\\.|[^"\\])*"|\.\.\.|\s+|.', shown, re.DOTALL):
        if token in "{[" and token:
            opened.append(token)
        elif token in "}]" and opened:
            opened.pop()
        elif token == LEFT_OUT:
            is_field = opened and opened[-1] == "{" and before in "{,"
            token = '"...": "..."' if is_field else '"..."'
        if not token.isspace():
            before = token[-1]
        out.append(token)
    try:
        return json.loads("".join(out))
    except ValueError:
        return None


def _compare_values(shown: Any, came: Any, ids: Ids, path: str) -> None:
    if shown == LEFT_OUT:
        return
    if isinstance(shown, dict) and isinstance(came, dict):
        shown_keys, more = shown.keys() - {LEFT_OUT}, LEFT_OUT in shown
        if missing := shown_keys - came.keys():
            raise Differs(f"{path} has no {', '.join(sorted(missing))}: {came}")
        if (left := came.keys() - shown_keys) and not more:
            raise Differs(f"{path} also has {', '.join(sorted(left))}")
        for key in shown_keys:
            _compare_values(shown[key], came[key], ids, f"{path}.{key}")
    elif isinstance(shown, list) and isinstance(came, list):
        at = shown.index(LEFT_OUT) if LEFT_OUT in shown else None
        tail = 0 if at is None else len(shown) - at - 1
        if len(came) != len(shown) if at is None else len(came) < at + tail:
            raise Differs(f"{path} has {len(came)} items: {came}")
        pairs = list(zip(shown[:at], came[:at], strict=True))
        pairs += list(zip(shown[len(shown) - tail :], came[len(came) - tail :], strict=True)) if tail else []
        for number, (one, other) in enumerate(pairs):
            _compare_values(one, other, ids, f"{path}[{number}]")
    elif isinstance(shown, str) and isinstance(came, str):
        try:
            _compare_text(shown, came, ids)
        except Differs as error:
            raise Differs(f"{path}: {error}") from None
    elif type(shown) is not type(came) or shown != came:
        raise Differs(f"{path} is {came!r}, not {shown!r}")


def _compare_text(shown: str, came: str, ids: Ids) -> None:
    """A line of only `...` stands for any lines, `...` in a line for any text of it."""
    pattern = "".join(
        "(?:.*\\n)*" if line.strip() == LEFT_OUT else _line_pattern(line.rstrip()) + "\\n"
        for line in shown.strip().splitlines()
    )
    got = "".join(f"{line.rstrip()}\n" for line in came.strip().splitlines())
    match = re.fullmatch(pattern, got)
    if match is None:
        raise Differs(f"it is {came.strip()!r}")
    for one, other in zip(UUID.findall(re.sub(r"\.\.\.", "", shown)), match.groups(), strict=True):
        ids.pair(one, other)


def _line_pattern(line: str) -> str:
    parts = re.split(f"({UUID.pattern}|{TIME.pattern}|\\.\\.\\.)", line)
    return "".join(_part_pattern(part) for part in parts)


def _part_pattern(part: str) -> str:
    if part == LEFT_OUT:
        return ".*"
    if UUID.fullmatch(part):
        return f"({UUID.pattern})"
    if TIME.fullmatch(part):
        return TIME.pattern
    return re.escape(part)
