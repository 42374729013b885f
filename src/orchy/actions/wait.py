"""wait: finishes when its `event` comes, with the event's data, or by `default` after `timeoutSeconds`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from orchy.actions.delay import DELAY_SECONDS_MAX
from orchy.flow.definition import Action
from orchy.flow.system import Answer, Await, Context, Fault, Field


class Wait:
    """Waits for an event."""

    name = "wait"
    fields: Mapping[str, Field] = {
        "event": Field((str,), required=True),
        "timeoutSeconds": Field((int, float)),
    }

    def faults(self, action: Action) -> Iterable[Fault]:
        """The event must have a name; a time-out of 0 is for ever."""
        if not action.settings["event"]:
            yield Fault("event", "a wait needs the name of its event")
        seconds = action.settings.get("timeoutSeconds", 0)
        if not (math.isfinite(seconds) and 0 <= seconds <= DELAY_SECONDS_MAX):
            yield Fault("timeoutSeconds", f"timeoutSeconds must be from 0 (for ever) to {DELAY_SECONDS_MAX:.0f}")

    def start(self, action: Action, context: Context) -> Answer:
        """Await the event."""
        return Await(action.settings["event"], action.settings.get("timeoutSeconds") or None)
