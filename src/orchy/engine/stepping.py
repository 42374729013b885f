"""Takes a flow through its steps up to the commit, including deferred work. Long steps take turns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import trio

from orchy.actions.runner import Done, Runner
from orchy.engine.limits import DEFAULT_LIMITS, EngineLimits
from orchy.engine.transition import Transition
from orchy.flow.budget import SECONDS_PER_WORK, Meter
from orchy.flow.draft import Rules
from orchy.flow.events import DeferredDone, DeferredFailed
from orchy.flow.execution import Flow
from orchy.flow.expressions.templates import FlowContext
from orchy.flow.graph import Graph

_R = TypeVar("_R")


class Stepper:
    """Steps the flows of one node, long steps one at a time. `runners` do the deferred work, by kind."""

    def __init__(self, runners: Mapping[str, Runner], limits: EngineLimits = DEFAULT_LIMITS) -> None:
        self._runners = runners
        self._limits = limits
        self._long_steps = trio.Lock()

    def small_transition(self, graph: Graph, flow: Flow, rules: Rules) -> Transition:
        """A transition with a small budget. If it is exhausted, `step` must make it again."""
        return Transition(graph, flow, rules, Meter(self._limits.small_step_work, bounds_actions=True))

    async def step(
        self, graph: Graph, flow: Flow, rules: Rules, take: Callable[[Transition], _R]
    ) -> tuple[Transition, _R]:
        """Step a flow. If it has much to evaluate, it waits for its turn and then sleeps for as long as it worked."""
        transition = self.small_transition(graph, flow, rules)
        taken = take(transition)
        if transition.meter.exhausted:
            async with self._long_steps:
                transition = Transition(graph, flow, rules, Meter(self._limits.commit_work))
                taken = take(transition)
                await trio.sleep(transition.meter.work * SECONDS_PER_WORK)
        else:  # the steps that follow deferred work have the whole budget
            transition.meter = Meter(self._limits.commit_work)
        return transition, taken

    async def run_deferred(self, transition: Transition) -> None:
        """Do the flow's deferred work, and that which follows from it, up to a limit.

        It is done before the commit, so that a chain of scripts costs one commit instead of two for each. Work beyond
        the limit continues by its timer, after the commit.
        """
        for _ in range(self._limits.deferred_per_commit):
            work = transition.next_deferred()
            if work is None:
                return
            context = FlowContext(transition.flow.input, transition.flow.finished).as_json()
            outcome = await self._runners[work.kind].run(work.payload, context, transition.flow.workflow)
            if isinstance(outcome, Done):
                transition.take(DeferredDone(work.run_id, work.attempt, outcome.output))
            else:
                transition.take(DeferredFailed(work.run_id, work.attempt, outcome.message))
