"""Budgets for evaluating expressions: one for each action, one for each commit. Pure.

Cost is counted, not timed, so that a step costs the same on every machine. One unit of work is about the cost of
visiting one value: 3 microseconds on hardware of 2024.

An action that exceeds its budget fails. A commit that exceeds its own only ends early: actions that it has not started
are postponed to the next commit, so that other flows get a turn in between.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar

import msgspec

from orchy.flow.definition import JSON

#: How many values the queries of one action may visit. A value that is visited twice counts twice.
VISITED_VALUES_MAX = 30_000
#: Instructions of the compiled regular expression times the characters that it runs over. Both limits share one budget:
#: half of each uses it up.
PATTERN_STEPS_MAX = 10_000_000
#: The JSON text that one action's expressions may produce: gRPC clients refuse messages over 4 MiB by default.
OUTPUT_BYTES_MAX = 4 * 2**20
#: How many values, at any depth, one action's expressions may produce.
OUTPUT_VALUES_MAX = 100_000
#: Units of work that one commit may evaluate before the rest waits for the next one.
COMMIT_WORK_MAX = 15_000
#: Units of work that a flow may evaluate on the fast path, where other flows wait for it.
SMALL_WORK_MAX = 1_000
SECONDS_PER_WORK = 3e-6

PATTERN_STEPS_PER_WORK = PATTERN_STEPS_MAX / VISITED_VALUES_MAX
OUTPUT_BYTES_PER_WORK = 1_000
OUTPUT_VALUES_PER_WORK = 3
#: Characters of text that cost as much to scan as one value.
CHARACTERS_PER_WORK = 256
#: Up to this size, values are estimated from the length of the JSON text (at most one for two characters), not counted.
_FEW_BYTES_MAX = 64
#: About the size of a number, true, false or null as JSON text.
_SCALAR_BYTES = 8

_encode = msgspec.json.Encoder().encode


class OverBudget(Exception):
    """Evaluation was stopped. The message completes a sentence that begins with the expression."""


class Meter:
    """Counts what one commit evaluates, and within it what the current action does.

    Beyond `work_max` units of work the commit is `exhausted`. Each action has a budget of its own, however little of
    the commit's is left; with `bounds_actions`, no action may exceed `work_max` either, and one that would exhausts
    the commit.

    `work` is the total spent, in units of work.
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
        # Spent by the current action:
        self._query_work = 0.0
        self._bytes = self._values = 0

    @property
    def exhausted(self) -> bool:
        """Whether the commit should start no further action."""
        return self._stopped or self.work > self._work_max

    def begin(self, fixed_bytes: int, fixed_values: int) -> None:
        """Begin the next action, whose result has this fixed part whatever the flow holds. Raises OverBudget."""
        self._query_work = 0.0
        self._bytes = self._values = 0
        self._add(fixed_bytes, fixed_values)

    def visit(self, count: int) -> None:
        """Charge for visiting `count` values, before it happens. Raises OverBudget."""
        if self._query_work + count > self._query_work_max:
            raise self._over(f"visits more than {VISITED_VALUES_MAX:,} values")
        self._query_work += count
        self.work += count

    def match(self, instructions: int, characters: int) -> None:
        """Charge for running a regular expression over a text, before it happens. Raises OverBudget."""
        work = instructions * (characters + 1) / PATTERN_STEPS_PER_WORK
        if self._query_work + work > self._query_work_max:
            raise self._over(
                f"needs more than {PATTERN_STEPS_MAX:,} steps for its regular expressions (instructions x characters)"
            )
        self._query_work += work
        self.work += work

    def write(self, text: str) -> None:
        """Charge for text that goes into the result. Raises OverBudget."""
        count = len(text)
        if self._bytes + count > self._bytes_max:
            raise self._over(f"makes a result of more than {OUTPUT_BYTES_MAX:,} bytes")
        self._bytes += count
        self.work += count / OUTPUT_BYTES_PER_WORK

    def put(self, value: list[JSON] | dict[str, JSON]) -> None:
        """Charge for a list or an object that goes into the result. Raises OverBudget."""
        size = len(_encode(value))
        values = size // 2 if size <= _FEW_BYTES_MAX else count_values([value], self._values_max - self._values)
        self._add(size, values)

    def put_each(self, values: Iterable[JSON]) -> None:
        """Charge for values that may contain each other: encoded all at once they could be gigabytes."""
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
        """The refusal. What is refused is not done, so it adds no work."""
        self._stopped = True
        return OverBudget(what)


#: The meter of the running query. A context variable, as the JSONPath library passes nothing through its nodes.
METER: ContextVar[Meter] = ContextVar("METER")


def count_values(values: list[JSON], limit: int) -> int:
    """How many values there are, at any depth. Counting stops beyond `limit`."""
    return _walk(values, limit, 0)


def weight(value: JSON, limit: int) -> int:
    """The work of visiting all of a value. Counting stops beyond `limit`."""
    return _walk([value], limit, CHARACTERS_PER_WORK)


def _walk(values: list[JSON], limit: int, characters_per_work: int) -> int:
    count = 0
    left = list(values)
    while left and count <= limit:
        value = left.pop()
        count += 1
        if isinstance(value, str):
            count += len(value) // characters_per_work if characters_per_work else 0
        elif isinstance(value, list | dict):
            if count + len(value) > limit:
                return count + len(value)
            left.extend(value if isinstance(value, list) else value.values())
    return count
