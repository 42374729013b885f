"""Queries of `jsonpath_ng.ext` made fit for what strangers write: each node pays for what it looks at before it does.

The language stays the library's, and so does each answer: its nodes do the work, wrapped one by one. What a node is
about to look at in one go (all of a list, a text with a regular expression) is paid for before, and so nothing is ever
built that is over the budget.

Arithmetic is for numbers only: a text times a thousand million would take all memory. Regular expressions are RE2's,
which take a time that grows with the text and not with 2 to its power.
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

#: What the automaton of a regular expression may take in memory, and how many are kept.
PATTERN_BYTES_MAX = 2**20
PATTERNS_CACHED_MAX = 32
#: The most in one path: they stay compiled while it goes from value to value, as to compile one is not paid for.
PATTERNS_MAX = PATTERNS_CACHED_MAX // 2

#: Nodes that go through all that a list or an object holds, by name: the library's versions differ in where they are.
_TAKES_ALL = frozenset({"Filter", "Keys", "Wildcard"})
#: Nodes that only ask others, who are paid.
_PASS_ON = frozenset({"Child", "Descendants", "This", "Where", "WhereNot"})
_LEVELS_PER_WORK = 5


def restrict(query: Any) -> None:
    """Let a query that was just parsed do only what it can pay for.

    Raises re2.error, and ValueError for too many patterns.
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
                part.op = _OF_NUMBERS[part.op_symbol]
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
    """The node's `find`, paid for: what it is about to go through, or else each thing that it finds."""
    find = part.find
    # Descendants put all that a value holds on their list as soon as their right side has seen the value.
    before = _BEFORE.get(name)
    named = getattr(part, "fields", None) or getattr(part, "indices", None)
    least = 0 if name in _PASS_ON else len(named) if named else 1
    is_paid = name in _PASS_ON or name in _TAKES_ALL or name in _BEFORE or named is not None
    if name == "Descendants":
        part.right = _Expanding(part.right)

    def metered(datum: Any) -> Any:
        meter = METER.get()
        value = getattr(datum, "value", datum)
        held = len(value) if name in _TAKES_ALL and isinstance(value, list | dict) else 0
        meter.visit(least + held)
        if before is not None:
            before(part, datum, value)
        found = find(datum)
        if not is_paid and isinstance(found, list):
            meter.visit(len(found))
        return found

    return metered


class _Expanding:
    """The right side of a descent: the values that it is asked about are gone into right after."""

    def __init__(self, part: Any) -> None:
        self.left = part  # where the library looks for what a node is made of

    def find(self, datum: Any) -> Any:
        value = datum.value
        METER.get().visit(len(value) if isinstance(value, list | dict) else 0)
        return self.left.find(datum)


def _before_root(part: Any, datum: Any, value: Any) -> None:
    """It goes up from wherever it is."""
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
    """What is compared with a value of the flow may be large, and so may that be."""
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
    """A pattern of RE2's. Raises re2.error."""
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


# The library has one table of operators for all; there is no way to give it another.
jsonpath_ng.ext.filter.OPERATOR_MAP["=~"] = _matches


class _Substitution:
    """What a `sub` replaces with. Holds no automaton: there may be many of these."""

    def __init__(self, text: str) -> None:
        self._text = text
        compile_pattern(text)

    def sub(self, replacement: str, text: Any) -> str:
        """As `re.Pattern.sub`."""
        if not isinstance(text, str):  # re2 would take the text of a whole document
            raise TypeError("only a text can be substituted in")
        pattern, meter = compile_pattern(self._text), METER.get()
        instructions = pattern.programsize * (1 + pattern.groups)
        meter.match(instructions, len(text))

        def replace(match: Any) -> str:
            # The search for the next one may have to look at all that is left.
            meter.visit(1)
            meter.match(instructions, len(text) - match.end())
            put: str = match.expand(replacement)
            meter.write(put)
            return put

        replaced: str = pattern.sub(replace, text)
        return replaced


# Arithmetic.


def _of_numbers(operate: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def guarded(left: Any, right: Any) -> Any:
        for operand in (left, right):
            if isinstance(operand, bool) or not isinstance(operand, int | float):
                raise TypeError(f"{operand!r:.40} is not a number")
        result = operate(left, right)
        if not math.isfinite(result):
            raise OverflowError("the result is too large")
        return result

    return guarded


_OF_NUMBERS = {
    "+": _of_numbers(operator.add),
    "-": _of_numbers(operator.sub),
    "*": _of_numbers(operator.mul),
    "/": _of_numbers(operator.truediv),
}
