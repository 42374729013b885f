"""What the orchestrator asks of a javascript engine, and what it gets."""

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
    """Why a script has no result, in its own words. `kind`: throw, syntax, time, memory, value or size."""

    message: str
    kind: str


@attrs.frozen
class ScriptProblem:
    """Why a text is no script; line and column are in the script, from 1, where they are known."""

    message: str
    line: int | None = None
    column: int | None = None


class ScriptChecker(Protocol):
    """Parses scripts and runs none."""

    async def check(self, expression: str) -> ScriptProblem | None:
        """What is wrong with a script. Raises Overloaded when that could not be found out in time."""
        ...


class JavaScriptEngine(Protocol):
    """Evaluates scripts, each in a world of its own."""

    async def evaluate(
        self, expression: str, context: Mapping[str, JSON], workflow: str = ""
    ) -> Evaluation | ScriptFailure:
        """Run a script over a copy of `context`. Raises Overloaded when none could be run in time.

        Scripts that wait take turns by `workflow`, so that none holds up the others.
        """
        ...
