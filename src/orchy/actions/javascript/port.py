"""The port of javascript engines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import attrs

from orchy.flow.definition import JSON


@attrs.frozen
class Evaluation:
    """The top-level keys of `$` that the script added or changed."""

    output: dict[str, JSON]


@attrs.frozen
class ScriptFailure:
    """Why a script has no result. `kind`: throw, syntax, time, memory, value or size."""

    message: str
    kind: str


@attrs.frozen
class ScriptProblem:
    """A syntax error in a script; line and column count from 1, and are None if unknown."""

    message: str
    line: int | None = None
    column: int | None = None


class ScriptChecker(Protocol):
    """Parses scripts without running them."""

    async def check(self, expression: str) -> ScriptProblem | None:
        """What is wrong with a script; None if it is valid. Raises Overloaded if it could not be parsed in time."""
        ...


class JavaScriptEngine(Protocol):
    """Evaluates scripts, isolated from each other."""

    async def evaluate(
        self, expression: str, context: Mapping[str, JSON], workflow: str = ""
    ) -> Evaluation | ScriptFailure:
        """Run a script over a copy of `context`. Raises Overloaded if it could not be run in time.

        Waiting scripts take turns by `workflow`, so that no workflow holds up the others.
        """
        ...
