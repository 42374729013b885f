"""The identity of a run of an action, which attempts, timers and results carry. Pure.

Today an action runs once in a flow, so a run's id is its action's id. Only this module and `Graph.action_of` know that;
all other code treats a `RunId` as opaque. Its text form is part of the stored format and of the workers' protocol.
"""

from __future__ import annotations

from typing import NewType

#: A distinct type for the type checker and an int at run time, as it is the key of every mapping that a step touches.
RunId = NewType("RunId", int)

#: For records about the whole flow.
NO_RUN = RunId(0)


def run_of(action_id: int) -> RunId:
    """The run of an action that the edges of the graph reach."""
    return RunId(action_id)


def parse_run(text: str) -> RunId:
    """The inverse of `str`. Raises ValueError for anything but a whole number."""
    return RunId(int(text))
