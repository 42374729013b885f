"""delay: finishes after `delaySeconds`, never early."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from orchy.flow.definition import DEFAULT_OUTCOME, Action
from orchy.flow.system import Answer, Context, Field, FieldProblem, Sleep

#: About 30 years: longer than any sensible delay, and well within what the store can represent.
DELAY_SECONDS_MAX = 1_000_000_000


class Delay:
    """Waits for a time."""

    name = "delay"
    fields: Mapping[str, Field] = {"delaySeconds": Field((int, float), required=True)}
    templates: tuple[str, ...] = ()

    def problems(self, action: Action) -> Iterable[FieldProblem]:
        """The delay must be a positive number; fractions are allowed."""
        seconds = action.settings["delaySeconds"]
        if not 0 < seconds <= DELAY_SECONDS_MAX:  # true for NaN, too
            yield FieldProblem("delaySeconds", f"delaySeconds must be more than 0 and at most {DELAY_SECONDS_MAX:,}")

    def outcomes(self, action: Action) -> Collection[str] | None:
        """Always the default outcome."""
        return (DEFAULT_OUTCOME,)

    def start(self, action: Action, context: Context) -> Answer:
        """Sleep."""
        return Sleep(action.settings["delaySeconds"])
