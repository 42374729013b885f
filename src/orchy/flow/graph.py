"""A workflow compiled once: its edges, its templates, and where branches meet.

An edge is (source, outcome, target); the root has one more, from the start of the flow. Each edge into an action
is settled once: taken, or dead because its source took another outcome or is dead itself (dead-path elimination,
WS-BPEL 2.0 section 11.6.2). An action that joins ALL runs when its last edge is settled and one was taken; one
that joins ANY runs on the first that is taken. With no edge taken it is dead, and so are the edges out of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import attrs

from orchy.flow.definition import Action, ActionType, JoinMode, Workflow
from orchy.flow.execution import Join
from orchy.flow.expressions.templates import Template, compile_template
from orchy.flow.runs import RunId

_NOTHING = Join()


@attrs.frozen
class Graph:
    """A compiled workflow, as the machine needs it. Made by `Graph.of`."""

    workflow: Workflow
    _incoming: Mapping[int, int]
    _places: Mapping[int, int]
    _parameters: Mapping[int, Template]

    @classmethod
    def of(cls, workflow: Workflow) -> Graph:
        """Compile a valid workflow."""
        incoming = dict.fromkeys(workflow.actions, 0)
        incoming[workflow.root] += 1
        for action in workflow.actions.values():
            for targets in action.next.values():
                for target in targets:
                    incoming[target] += 1
        places = {action_id: place for place, action_id in enumerate(workflow.actions)}
        parameters = {
            action.id: compile_template(action.parameters)
            for action in workflow.actions.values()
            if action.type is ActionType.USER
        }
        return cls(workflow, incoming, places, parameters)

    def incoming(self, action_id: int) -> int:
        """How many edges lead to an action, including the one from the start."""
        return self._incoming[action_id]

    def edges(self, action_id: int, outcome: str) -> tuple[int, ...]:
        """The actions that an outcome leads to. Falling back to `default` is the action's own decision."""
        return self.workflow.actions[action_id].next.get(outcome, ())

    def action_of(self, run_id: RunId) -> Action:
        """The action that a run belongs to."""
        return self.workflow.actions[run_id]

    def find_action(self, run_id: RunId) -> Action | None:
        """The same for an id from outside; None if the workflow has no such action."""
        return self.workflow.actions.get(run_id)

    def parameters(self, action_id: int) -> Template:
        """The parameters of a user action, not resolved yet."""
        return self._parameters[action_id]

    def settle(
        self, joins: Mapping[int, Join], action_id: int, outcome: str
    ) -> tuple[list[int], dict[int, Join | None]]:
        """An action took `outcome`: the ids that this starts, in the definition's order, and the joins that change.

        None for a join means that all its edges are settled, so that it can be forgotten. An action that joins ANY and
        has started is remembered by `taken` > 0 until then. Costs as much as there are edges that it settles, whatever
        the size of the graph and of `joins`.
        """
        started: list[int] = []
        changed: dict[int, Join | None] = {}
        out = self.workflow.actions[action_id].next
        edges = deque((target, other == outcome) for other, targets in out.items() for target in targets)
        while edges:
            target, taken = edges.popleft()
            before = changed.get(target) or joins.get(target, _NOTHING)
            join = Join(before.taken + taken, before.dead + (not taken))
            count = self._incoming[target]
            settled = join.taken + join.dead == count
            assert settled or join.taken + join.dead < count, f"an edge to action {target} was settled twice"
            if self.workflow.actions[target].join is JoinMode.ANY:
                if taken and join.taken == 1:
                    started.append(target)
            elif settled and join.taken:
                started.append(target)
            if not settled:
                changed[target] = join
            elif target in joins:
                changed[target] = None
            else:
                changed.pop(target, None)
            if settled and not join.taken:
                for targets in self.workflow.actions[target].next.values():
                    edges.extend((further, False) for further in targets)
        if len(started) > 1:
            started.sort(key=self._places.__getitem__)
        return started, changed
