"""Which run of which action: the identity that attempts, timers and results carry. Pure.

Today an action runs once in a flow, so a run's number is its action's id. Whoever needs to know that asks here or
`Graph.action_of`; all else passes a `RunId` on as it is. Its text form is what stores and workers have.
"""

from __future__ import annotations

from typing import NewType

#: A type of its own for the type checker, an int at run time: it is the key of every mapping that a step touches.
RunId = NewType("RunId", int)

#: In records that are about the whole flow.
NO_RUN = RunId(0)


def run_of(action_id: int) -> RunId:
    """The run of an action that is reached by the edges of the graph."""
    return RunId(action_id)


def parse_run(text: str) -> RunId:
    """The run that `str` wrote. Raises ValueError for anything but a whole number."""
    return RunId(int(text))
