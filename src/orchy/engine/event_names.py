"""Warns of events that no wait will ever take, as none has their name."""

from __future__ import annotations

from orchy.errors import Problem
from orchy.flow.definition import Workflow
from orchy.flow.validation.suggestions import Suggestions

_SHOWN_MAX = 5
_SHOWN_CHARS = 100


def warning_of(workflow: Workflow, event: str) -> Problem | None:
    """A warning about an event that was sent to a flow of this workflow; None if one of its waits has that name."""
    waited = {
        name: None for action in workflow.actions.values() if isinstance(name := action.settings.get("event"), str)
    }
    if event in waited:
        return None
    what = f"the workflow {workflow.name!r} (version {workflow.version})"
    if not waited:
        return Problem(f"{what} waits for no event at all: this one stays in the flow and does nothing", "/event")
    hint = Suggestions(waited).hint(event)
    if not hint:
        shown = ", ".join(repr(name[:_SHOWN_CHARS]) for name in list(waited)[:_SHOWN_MAX])
        hint = f"; it waits for {shown}" + (f" and {len(waited) - _SHOWN_MAX} more" * (len(waited) > _SHOWN_MAX))
    return Problem(f"no wait of {what} has the event {event[:_SHOWN_CHARS]!r}{hint}", "/event")
