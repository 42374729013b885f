"""switch: takes the outcome that its `expression`'s value names, as text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from orchy.flow.definition import DEFAULT_OUTCOME, Action
from orchy.flow.expressions import ExpressionError, as_text, compile_template
from orchy.flow.system import Answer, Context, Fail, Fault, Field, Finish


class Switch:
    """Chooses a branch."""

    name = "switch"
    fields: Mapping[str, Field] = {"expression": Field((str,), required=True)}

    def faults(self, action: Action) -> Iterable[Fault]:
        """There must be a branch to choose, and an expression that parses."""
        if not action.next:
            yield Fault("next", "a switch needs branches in its next")
        try:
            compile_template(action.settings["expression"])
        except ExpressionError as error:
            yield Fault("expression", str(error))

    def start(self, action: Action, context: Context) -> Answer:
        """Take the branch of the value's text, or `default`."""
        value, _ = compile_template(action.settings["expression"]).resolve(context)
        text = as_text(value)
        if text in action.next:
            return Finish(text)
        if DEFAULT_OUTCOME in action.next:
            return Finish(DEFAULT_OUTCOME)
        shown = "null" if value is None else repr(text)
        return Fail(f"the switch has no branch for {shown} and no default")
