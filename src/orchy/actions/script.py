"""javascript: finishes with the top-level keys of `$` that its `expression` added or changed.

The expression is a script, not a template: ``{$`` in it means nothing here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from orchy.flow.definition import DEFAULT_OUTCOME, Action
from orchy.flow.system import Answer, Context, Defer, Field, FieldProblem


class JavaScript:
    """Has a script run by the engine."""

    name = "javascript"
    fields: Mapping[str, Field] = {"expression": Field((str,), required=True)}
    templates: tuple[str, ...] = ()
    #: Fields that are scripts.
    scripts: tuple[str, ...] = ("expression",)

    def problems(self, action: Action) -> Iterable[FieldProblem]:
        """There must be a script. Whether it is one is the engine's to say."""
        if not action.settings["expression"].strip():
            yield FieldProblem("expression", "a javascript action needs a script")

    def outcomes(self, action: Action) -> Collection[str] | None:
        """It has one."""
        return (DEFAULT_OUTCOME,)

    def start(self, action: Action, context: Context) -> Answer:
        """Have it run."""
        return Defer(self.name, action.settings["expression"])
