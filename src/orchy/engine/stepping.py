"""A flow through its steps up to the commit: fairly, where they take long, and with the scripts on the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import trio

from orchy.actions.javascript.port import Evaluation, JavaScriptEngine
from orchy.engine.transition import Transition
from orchy.flow.budget import SECONDS_PER_WORK, SMALL_WORK_MAX, Meter
from orchy.flow.draft import Rules
from orchy.flow.events import DeferredDone, DeferredFailed
from orchy.flow.execution import Flow
from orchy.flow.expressions.templates import FlowContext
from orchy.flow.graph import Graph

#: The most scripts that run before one commit.
EVALUATIONS_PER_COMMIT = 20

_R = TypeVar("_R")


class Stepper:
    """Steps flows of one node, those that take long one at a time."""

    def __init__(self, engine: JavaScriptEngine) -> None:
        self._engine = engine
        self._much_work = trio.Lock()

    async def step(
        self, graph: Graph, flow: Flow, rules: Rules, take: Callable[[Transition], _R]
    ) -> tuple[Transition, _R]:
        """Step a flow. One that has much to evaluate waits for its turn, and then leaves all else as much time."""
        transition = Transition(graph, flow, rules, SMALL_WORK_MAX)
        taken = take(transition)
        if transition.meter.exhausted:
            async with self._much_work:
                transition = Transition(graph, flow, rules)
                taken = take(transition)
                await trio.sleep(transition.meter.work * SECONDS_PER_WORK)
        else:
            transition.meter = Meter()  # what scripts lead to has the whole of it
        return transition, taken

    async def evaluate(self, transition: Transition) -> None:
        """Run the scripts that the flow has come to, and those that they lead to, up to a limit."""
        for _ in range(EVALUATIONS_PER_COMMIT):
            script = transition.next_script()
            if script is None:
                return
            context = FlowContext(transition.flow.input, transition.flow.finished).as_json()
            answer = await self._engine.evaluate(script.expression, context, transition.flow.workflow)
            if isinstance(answer, Evaluation):
                transition.take(DeferredDone(script.run_id, script.attempt, answer.output))
            else:
                transition.take(DeferredFailed(script.run_id, script.attempt, answer.message))
