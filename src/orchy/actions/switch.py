"""switch: takes the outcome named by the value of its `expression`, as text.

The text of null, and of a path that finds nothing, is empty: it takes the outcome ``""`` if there is one, else
`default` like any other value without a branch.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from orchy.flow.budget import OverBudget
from orchy.flow.definition import DEFAULT_OUTCOME, Action
from orchy.flow.expressions.templates import FlowContext, as_text, compile_template, expression_problems
from orchy.flow.system import Answer, Context, Fail, Field, FieldProblem, Finish

_SHOWN_CHARS = 200


class Switch:
    """Chooses a branch."""

    name = "switch"
    fields: Mapping[str, Field] = {"expression": Field((str,), required=True)}
    templates: tuple[str, ...] = ("expression",)

    def problems(self, action: Action) -> Iterable[FieldProblem]:
        """There must be at least one branch, and an expression whose tokens are valid."""
        if not action.next:
            yield FieldProblem("next", "a switch needs branches in its next")
        if not action.settings["expression"].strip():
            yield FieldProblem("expression", "a switch needs an expression")
        for error in expression_problems(action.settings["expression"]):
            yield FieldProblem("expression", f"the expression {error}")

    def outcomes(self, action: Action) -> Collection[str] | None:
        """Any text, unless the expression has no tokens and so only one value."""
        template = compile_template(action.settings["expression"])
        if not template.constant:
            return None
        value, _ = template.resolve(FlowContext(None, {}))
        return (as_text(value), DEFAULT_OUTCOME)

    def start(self, action: Action, context: Context) -> Answer:
        """Take the branch of the value's text, or `default`; without either the flow fails."""
        try:
            value, missing = compile_template(action.settings["expression"]).resolve(context)
        except OverBudget as over:
            return Fail(f"the switch can't be decided: {over}")
        text = as_text(value)
        if text in action.next:
            return Finish(text, missing=missing)
        if DEFAULT_OUTCOME in action.next:
            return Finish(DEFAULT_OUTCOME, missing=missing)
        shown = "null" if value is None else repr(text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}...")
        why = f" ({', '.join(missing)} found nothing)" if missing else ""
        return Fail(f"the switch has no branch for {shown}{why} and no default")
