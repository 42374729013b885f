"""Makes queries of `jsonpath_ng.ext` safe for untrusted users: each node is charged before it does its work.

Language and results stay the library's: its nodes do the work, each in a wrapper. Whatever a node visits in one go (a
whole list, a text with a regular expression) is charged for first, so that nothing over the budget is ever built.

Arithmetic is limited to numbers, as repeating a text a billion times would take all memory. Regular expressions are
RE2's, whose running time is linear in the text and never exponential.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jsonpath_ng.ext.filter
import re2

from orchy.flow.budget import CHARACTERS_PER_WORK, METER, VISITED_VALUES_MAX, weight

#: Memory that the automaton of one regular expression may take, and how many are cached.
PATTERN_BYTES_MAX = 2**20
PATTERNS_CACHED_MAX = 32
#: The most in one path. All of them fit the cache, as compiling one again for each value would not be charged.
PATTERNS_MAX = PATTERNS_CACHED_MAX // 2

#: Nodes that visit every item of a list or an object. By name, as the library's versions keep them in different places.
_VISITS_ALL = frozenset({"Filter", "Keys", "Wildcard"})
#: Nodes that only delegate to others, which are charged.
_DELEGATES = frozenset({"Child", "Descendants", "This", "Where", "WhereNot"})
_LEVELS_PER_WORK = 5


def restrict(query: Any) -> None:
    """Wrap the nodes of a freshly parsed query in meters.

    Raises re2.error, and ValueError for too many regular expressions.
    """
    left = [query]
    patterns = 0
    while left:
        part = left.pop()
        if isinstance(part, list | tuple):
            left.extend(part)
        elif hasattr(part, "find") and not isinstance(part, str):
            name = type(part).__name__
            left.extend(vars(part).values())
            if name == "Operation":
                part.op = _ARITHMETIC[part.op_symbol]
            elif name == "Sub":
                part.regex = _Substitution(part.expr)
                patterns += 1
            elif getattr(part, "op", None) == "=~" and isinstance(part.value, str):
                compile_pattern(part.value, never_capture=True)
                patterns += 1
            if patterns > PATTERNS_MAX:
                raise ValueError(f"has more than {PATTERNS_MAX} regular expressions")
            part.find = _metered(name, part)


def _metered(name: str, part: Any) -> Callable[[Any], Any]:
    """The node's `find`, charged for what it is about to visit, or else for each value that it has found."""
    find = part.find
    before = _BEFORE.get(name)
    named = getattr(part, "fields", None) or getattr(part, "indices", None)
    least = 0 if name in _DELEGATES else len(named) if named else 1
    is_charged_before = name in _DELEGATES or name in _VISITS_ALL or name in _BEFORE or named is not None
    if name == "Descendants":  # queues all items of a value as soon as its right side has seen the value
        part.right = _Expanding(part.right)

    def metered(datum: Any) -> Any:
        meter = METER.get()
        value = getattr(datum, "value", datum)
        items = len(value) if name in _VISITS_ALL and isinstance(value, list | dict) else 0
        meter.visit(least + items)
        if before is not None:
            before(part, datum, value)
        found = find(datum)
        if not is_charged_before and isinstance(found, list):
            meter.visit(len(found))
        return found

    return metered


class _Expanding:
    """The right side of a descent, which is charged for the items of each value: the descent visits them next."""

    def __init__(self, part: Any) -> None:
        self.left = part  # where `restrict` and the library look for child nodes

    def find(self, datum: Any) -> Any:
        value = datum.value
        METER.get().visit(len(value) if isinstance(value, list | dict) else 0)
        return self.left.find(datum)


def _before_root(part: Any, datum: Any, value: Any) -> None:
    """The library walks up to the root from wherever it is."""
    levels = 0
    while (datum := getattr(datum, "context", None)) is not None:
        levels += 1
    METER.get().visit(levels // _LEVELS_PER_WORK)


def _before_slice(part: Any, datum: Any, value: Any) -> None:
    if isinstance(value, list) and part.step != 0:
        METER.get().visit(len(range(len(value))[part.start : part.end : part.step]))


def _before_sorting(part: Any, datum: Any, value: Any) -> None:
    if isinstance(value, list | dict):
        comparisons = len(value).bit_length()
        METER.get().visit(comparisons * weight(value, VISITED_VALUES_MAX))


def _before_text(part: Any, datum: Any, value: Any) -> None:
    METER.get().visit(weight(value, VISITED_VALUES_MAX))


def _before_split(part: Any, datum: Any, value: Any) -> None:
    if isinstance(value, str):
        METER.get().visit(len(value) // CHARACTERS_PER_WORK + value.count(part.chars))


def _before_comparison(part: Any, datum: Any, value: Any) -> None:
    """Both sides of a comparison may be large values of the flow."""
    if isinstance(part.value, str) or not hasattr(part.value, "find"):
        return
    wanted = [match.value for match in part.value.find(datum)]
    work = sum(weight(one, VISITED_VALUES_MAX) - 1 for one in wanted)
    if work:
        METER.get().visit(work * len(part.target.find(datum)))


_BEFORE: dict[str, Callable[[Any, Any, Any], None]] = {
    "Expression": _before_comparison,
    "Root": _before_root,
    "Slice": _before_slice,
    "SortedThis": _before_sorting,
    "Split": _before_split,
    "Str": _before_text,
}


# Regular expressions.


@lru_cache(PATTERNS_CACHED_MAX)
def compile_pattern(text: str, *, never_capture: bool = False) -> Any:
    """Compile with RE2. Raises re2.error."""
    options = re2.Options()
    options.log_errors = False
    options.max_mem = PATTERN_BYTES_MAX
    options.never_capture = never_capture
    return re2.compile(text, options)


def _matches(value: Any, text: Any) -> bool:
    if not isinstance(value, str):
        return False
    pattern = compile_pattern(text, never_capture=True)
    METER.get().match(pattern.programsize, len(value))
    return pattern.search(value) is not None


# The library has one global table of operators and no way to pass in another.
jsonpath_ng.ext.filter.OPERATOR_MAP["=~"] = _matches


class _Substitution:
    """The pattern of a `sub`. Holds only its text, as there may be many of these: automata are in the cache."""

    def __init__(self, text: str) -> None:
        self._text = text
        compile_pattern(text)

    def sub(self, replacement: str, text: Any) -> str:
        """Like `re.Pattern.sub`."""
        if not isinstance(text, str):  # re2 would search the text of a whole document
            raise TypeError("only a text can be substituted in")
        pattern, meter = compile_pattern(self._text), METER.get()
        instructions = pattern.programsize * (1 + pattern.groups)
        meter.match(instructions, len(text))

        def replace(match: Any) -> str:
            # The search for the next match may scan all of the remaining text.
            meter.visit(1)
            meter.match(instructions, len(text) - match.end())
            inserted: str = match.expand(replacement)
            meter.write(inserted)
            return inserted

        replaced: str = pattern.sub(replace, text)
        return replaced


# Arithmetic.


def _numbers_only(operate: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def guarded(left: Any, right: Any) -> Any:
        for operand in (left, right):
            if isinstance(operand, bool) or not isinstance(operand, int | float):
                raise TypeError(f"{operand!r:.40} is not a number")
        result = operate(left, right)
        if not math.isfinite(result):
            raise OverflowError("the result is too large")
        return result

    return guarded


_ARITHMETIC = {
    "+": _numbers_only(operator.add),
    "-": _numbers_only(operator.sub),
    "*": _numbers_only(operator.mul),
    "/": _numbers_only(operator.truediv),
}
