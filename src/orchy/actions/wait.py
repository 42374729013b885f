"""wait: finishes with the data of its `event` when that comes, or by `default` after `timeoutSeconds`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from orchy.actions.delay import DELAY_SECONDS_MAX
from orchy.flow.definition import DEFAULT_OUTCOME, Action
from orchy.flow.system import Answer, Await, Context, Field, FieldProblem
from orchy.flow.validation.names import name_problem


class Wait:
    """Waits for an event."""

    name = "wait"
    fields: Mapping[str, Field] = {
        "event": Field((str,), required=True),
        "timeoutSeconds": Field((int, float)),
    }
    templates: tuple[str, ...] = ()

    def problems(self, action: Action) -> Iterable[FieldProblem]:
        """The event must have a valid name. A timeout of 0 means for ever."""
        problem = name_problem(action.settings["event"])
        if problem is not None:
            yield FieldProblem("event", f"the event's name {problem}")
        if not 0 <= action.settings.get("timeoutSeconds", 0) <= DELAY_SECONDS_MAX:  # true for NaN, too
            yield FieldProblem("timeoutSeconds", f"timeoutSeconds must be from 0 (for ever) to {DELAY_SECONDS_MAX:,}")

    def outcomes(self, action: Action) -> Collection[str] | None:
        """The event's name, and `default` if there is a timeout."""
        event = action.settings["event"]
        return (event, DEFAULT_OUTCOME) if action.settings.get("timeoutSeconds") else (event,)

    def start(self, action: Action, context: Context) -> Answer:
        """Await the event."""
        return Await(action.settings["event"], action.settings.get("timeoutSeconds") or None)
