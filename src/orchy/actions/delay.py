"""delay: finishes after `delaySeconds`, never early."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from orchy.flow.definition import Action
from orchy.flow.system import Answer, Context, Fault, Field, Sleep

#: About 30 years: later than anything means, and far inside what the store can count.
DELAY_SECONDS_MAX = 1e9


class Delay:
    """Waits for a time."""

    name = "delay"
    fields: Mapping[str, Field] = {"delaySeconds": Field((int, float), required=True)}

    def faults(self, action: Action) -> Iterable[Fault]:
        """The delay must be a positive number."""
        seconds = action.settings["delaySeconds"]
        if not (math.isfinite(seconds) and 0 < seconds <= DELAY_SECONDS_MAX):
            yield Fault("delaySeconds", f"delaySeconds must be more than 0 and at most {DELAY_SECONDS_MAX:.0f}")

    def start(self, action: Action, context: Context) -> Answer:
        """Sleep."""
        return Sleep(action.settings["delaySeconds"])
