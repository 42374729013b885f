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

from orchy.flow.definition import ActionType, JoinMode, Workflow
from orchy.flow.execution import Join
from orchy.flow.expressions import Template, compile_template

_NOTHING = Join()


@attrs.frozen
class Graph:
    """What the machine asks of a workflow. Make it with `Graph.of`."""

    workflow: Workflow
    _incoming: Mapping[int, int]
    _parameters: Mapping[int, Template]

    @classmethod
    def of(cls, workflow: Workflow) -> Graph:
        """Compile a sound workflow."""
        incoming = dict.fromkeys(workflow.actions, 0)
        incoming[workflow.root] += 1
        for action in workflow.actions.values():
            for targets in action.next.values():
                for target in targets:
                    incoming[target] += 1
        parameters = {
            action.id: compile_template(action.parameters)
            for action in workflow.actions.values()
            if action.type is ActionType.USER
        }
        return cls(workflow, incoming, parameters)

    def incoming(self, action_id: int) -> int:
        """How many edges lead to an action."""
        return self._incoming[action_id]

    def parameters(self, action_id: int) -> Template:
        """The parameters of a user action, to be resolved."""
        return self._parameters[action_id]

    def settle(
        self, joins: Mapping[int, Join], action_id: int, outcome: str
    ) -> tuple[list[int], dict[int, Join | None]]:
        """An action took `outcome`: the ids that are reached by it, and the joins that change (None: settled, forget it).

        Costs as much as there are edges that it settles.
        """
        reached: list[int] = []
        changed: dict[int, Join | None] = {}
        out = self.workflow.actions[action_id].next
        edges = deque((target, True) for target in out.get(outcome, ()))
        edges.extend((target, False) for other, targets in out.items() if other != outcome for target in targets)
        while edges:
            target, taken = edges.popleft()
            before = changed[target] if target in changed else joins.get(target)
            join = before or _NOTHING
            join = Join(join.taken + taken, join.dead + (not taken))
            settled = join.taken + join.dead == self._incoming[target]
            if self.workflow.actions[target].join is JoinMode.ANY:
                if taken and join.taken == 1:
                    reached.append(target)
            elif settled and join.taken:
                reached.append(target)
            changed[target] = None if settled else join
            if settled and not join.taken:
                for targets in self.workflow.actions[target].next.values():
                    edges.extend((further, False) for further in targets)
        return reached, changed
