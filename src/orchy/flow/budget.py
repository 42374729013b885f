"""What evaluating expressions may cost, for one action and for all that one commit evaluates. Pure.

Costs are counted, not timed, so that the same step costs the same wherever and whenever it is made. One unit of work is
about what looking at one value takes: 3 microseconds on a machine of 2024.

An action over its budget fails. A commit over its own only ends early: what it has still to start is postponed to the
next commit, so that other flows have their turn in between.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar

import msgspec

from orchy.flow.definition import JSON

#: How many values the queries of one action may look at. A value that is found twice counts twice.
VISITED_VALUES_MAX = 30_000
#: Instructions of the compiled regular expression times the characters that it runs over. Half of these and half of
#: the values that may be visited are as much as all of either.
PATTERN_STEPS_MAX = 10_000_000
#: The JSON text of what one action's expressions make: common gRPC clients take no message over 4 MiB.
OUTPUT_BYTES_MAX = 4 * 2**20
#: How many values, at any depth, one action's expressions make.
OUTPUT_VALUES_MAX = 100_000
#: What one commit may evaluate, in units of work, before the rest waits for the next one.
COMMIT_WORK_MAX = 15_000
#: What a flow may evaluate while others wait to be moved with it; beyond that it is moved by itself.
SMALL_WORK_MAX = 1_000
SECONDS_PER_WORK = 3e-6

PATTERN_STEPS_PER_WORK = PATTERN_STEPS_MAX / VISITED_VALUES_MAX
OUTPUT_BYTES_PER_WORK = 1_000
OUTPUT_VALUES_PER_WORK = 3
#: A text is looked at so many characters in the time of one value.
CHARACTERS_PER_WORK = 256
#: In so short a text there are few values, one for two characters at most: they are not counted.
_FEW_BYTES_MAX = 64
#: About what a number, true, false or null takes as JSON text.
_SCALAR_BYTES = 8

_encode = msgspec.json.Encoder().encode


class OverBudget(Exception):
    """Evaluation was stopped. Its text says what was exceeded, as the end of a sentence about an expression."""


class Meter:
    """What one commit has evaluated so far, and the action that it is at.

    `work_max`: beyond it the commit is `exhausted`. Each action has its own budget, however much is left of that;
    `bounds_actions`: but no action may take more than `work_max` either, and one that would exhausts it.

    `work` is what was spent in all, in units of work.
    """

    __slots__ = (
        "_bytes",
        "_bytes_max",
        "_query_work",
        "_query_work_max",
        "_stopped",
        "_values",
        "_values_max",
        "_work_max",
        "work",
    )

    def __init__(self, work_max: int = COMMIT_WORK_MAX, *, bounds_actions: bool = False) -> None:
        self._work_max = work_max
        if bounds_actions:
            self._query_work_max = work_max
            self._bytes_max = work_max * OUTPUT_BYTES_PER_WORK
            self._values_max = work_max * OUTPUT_VALUES_PER_WORK
        else:
            self._query_work_max = VISITED_VALUES_MAX
            self._bytes_max, self._values_max = OUTPUT_BYTES_MAX, OUTPUT_VALUES_MAX
        self._stopped = False
        self.work = 0.0
        # Of the action that it is at:
        self._query_work = 0.0
        self._bytes = self._values = 0

    @property
    def exhausted(self) -> bool:
        """Whether the commit should not begin another action."""
        return self._stopped or self.work > self._work_max

    def begin(self, fixed_bytes: int, fixed_values: int) -> None:
        """The next action: of its result so much is known without a look at the flow. Raises OverBudget."""
        self._query_work = 0.0
        self._bytes = self._values = 0
        self._add(fixed_bytes, fixed_values)

    def visit(self, count: int) -> None:
        """So many values are about to be looked at. Raises OverBudget."""
        if self._query_work + count > self._query_work_max:
            raise self._over(f"visits more than {VISITED_VALUES_MAX:,} values")
        self._query_work += count
        self.work += count

    def match(self, instructions: int, characters: int) -> None:
        """A regular expression is about to run over a text. Raises OverBudget."""
        work = instructions * (characters + 1) / PATTERN_STEPS_PER_WORK
        if self._query_work + work > self._query_work_max:
            raise self._over(
                f"needs more than {PATTERN_STEPS_MAX:,} steps for its regular expressions (instructions x characters)"
            )
        self._query_work += work
        self.work += work

    def write(self, text: str) -> None:
        """A text goes into the result, or into a value of it. Raises OverBudget."""
        count = len(text)
        if self._bytes + count > self._bytes_max:
            raise self._over(f"makes a result of more than {OUTPUT_BYTES_MAX:,} bytes")
        self._bytes += count
        self.work += count / OUTPUT_BYTES_PER_WORK

    def put(self, value: list[JSON] | dict[str, JSON]) -> None:
        """A list or an object goes into the result. Raises OverBudget."""
        size = len(_encode(value))
        values = size // 2 if size <= _FEW_BYTES_MAX else count_values([value], self._values_max - self._values)
        self._add(size, values)

    def put_each(self, values: Iterable[JSON]) -> None:
        """Values that may be in each other go into the result: encoded together they could be gigabytes."""
        for value in values:
            if isinstance(value, str):
                self._add(len(value), 1)
            elif isinstance(value, list | dict):
                self.put(value)
            else:
                self._add(_SCALAR_BYTES, 1)

    def _add(self, written_bytes: int, values: int) -> None:
        if self._bytes + written_bytes > self._bytes_max:
            raise self._over(f"makes a result of more than {OUTPUT_BYTES_MAX:,} bytes")
        if self._values + values > self._values_max:
            raise self._over(f"makes a result of more than {OUTPUT_VALUES_MAX:,} values")
        self._bytes += written_bytes
        self._values += values
        self.work += written_bytes / OUTPUT_BYTES_PER_WORK + values / OUTPUT_VALUES_PER_WORK

    def _over(self, what: str) -> OverBudget:
        """What is refused was not done: it is no work."""
        self._stopped = True
        return OverBudget(what)


#: The meter of the query that runs now: the library's nodes know nothing of it.
METER: ContextVar[Meter] = ContextVar("METER")


def count_values(values: list[JSON], enough: int) -> int:
    """How many values there are, at any depth; more than `enough` of them are not all counted."""
    return _walk(values, enough, 0)


def weight(value: JSON, enough: int) -> int:
    """The work of looking at all of a value; more than `enough` of it is not all counted."""
    return _walk([value], enough, CHARACTERS_PER_WORK)


def _walk(values: list[JSON], enough: int, characters_per_work: int) -> int:
    count = 0
    left = list(values)
    while left and count <= enough:
        value = left.pop()
        count += 1
        if isinstance(value, str):
            count += len(value) // characters_per_work if characters_per_work else 0
        elif isinstance(value, list | dict):
            if count + len(value) > enough:
                return count + len(value)
            left.extend(value if isinstance(value, list) else value.values())
    return count
