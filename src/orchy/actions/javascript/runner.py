"""Runs the scripts of `javascript` actions."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from orchy.actions.javascript.port import Evaluation, JavaScriptEngine
from orchy.actions.runner import Done, NotDone
from orchy.flow.definition import JSON


@attrs.frozen
class ScriptRunner:
    """Runs scripts with a javascript engine."""

    engine: JavaScriptEngine

    async def run(self, payload: JSON, context: Mapping[str, JSON], workflow: str) -> Done | NotDone:
        """Run the script that `payload` is. Raises Overloaded if it could not be run in time."""
        answer = await self.engine.evaluate(payload, context, workflow)
        return Done(answer.output) if isinstance(answer, Evaluation) else NotDone(answer.message)
