"""javascript: finishes with the top-level keys of `$` that its `expression` added or changed.

The expression is a script, not a template: ``{$`` has no special meaning in it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from orchy.flow.definition import DEFAULT_OUTCOME, Action
from orchy.flow.system import Answer, Context, Defer, Field, FieldProblem


class JavaScript:
    """Runs a script."""

    name = "javascript"
    fields: Mapping[str, Field] = {"expression": Field((str,), required=True)}
    templates: tuple[str, ...] = ()
    #: Fields that are scripts.
    scripts: tuple[str, ...] = ("expression",)

    def problems(self, action: Action) -> Iterable[FieldProblem]:
        """The script must not be empty. Its syntax is checked by the engine."""
        if not action.settings["expression"].strip():
            yield FieldProblem("expression", "a javascript action needs a script")

    def outcomes(self, action: Action) -> Collection[str] | None:
        """Always the default outcome."""
        return (DEFAULT_OUTCOME,)

    def start(self, action: Action, context: Context) -> Answer:
        """Defer to the script runner."""
        return Defer(self.name, action.settings["expression"])
