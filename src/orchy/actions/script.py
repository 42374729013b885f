"""javascript: finishes with the top-level keys of `$` that its `expression` added or changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from orchy.flow.definition import Action
from orchy.flow.system import Answer, Context, Fault, Field, Script


class JavaScript:
    """Runs a script."""

    name = "javascript"
    fields: Mapping[str, Field] = {"expression": Field((str,), required=True)}

    def faults(self, action: Action) -> Iterable[Fault]:
        """Whether a script is one shows when it runs."""
        if not action.settings["expression"].strip():
            yield Fault("expression", "a javascript action needs a script")

    def start(self, action: Action, context: Context) -> Answer:
        """Have it run."""
        return Script(action.settings["expression"])
