"""Starts of flows: what is asked for, what came of it, and whether a flow that is there already is the same one."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from orchy.errors import Problem, StoreError, WrongState
from orchy.flow.definition import JSON
from orchy.flow.execution import Flow
from orchy.flow.graph import Graph

_encode = msgspec.json.Encoder(order="deterministic").encode


class Wanted(Struct, frozen=True):
    """A flow to be started. `flow_id` None: an id that nobody has; `version_given`: the caller named the version."""

    graph: Graph
    input: JSON
    flow_id: str | None = None
    version_given: bool = False


class NewFlow(Struct, frozen=True):
    """A flow that is to be made. `first_try`: what came of a commit, where one was tried and did not settle it."""

    graph: Graph
    flow: Flow
    version_given: bool = False
    first_try: StoreError | None = None


class Begun(Struct, frozen=True):
    """A flow that is durable. `created` is false where it was there before; `version` is the one that it runs on."""

    flow_id: str
    created: bool
    version: int


def same_start(there: Flow, wanted: Flow, *, version_given: bool, created: bool = False) -> Begun:
    """What is answered to a start whose flow is there already. Raises WrongState if that one is another flow.

    It is the same if it is of the same workflow, has the same input, and runs on the version that the caller named, if
    one was named. Keys of objects may stand in another order.
    """
    differences: list[Problem] = []
    if there.workflow != wanted.workflow:
        differences.append(Problem(f"it is of the workflow {there.workflow!r}, not {wanted.workflow!r}", "/name"))
    elif version_given and there.workflow_version != wanted.workflow_version:
        message = f"it runs on version {there.workflow_version}, not {wanted.workflow_version}"
        differences.append(Problem(message, "/version"))
    if _encode(there.input) != _encode(wanted.input):
        differences.append(Problem("its input is another one", "/input"))
    if differences:
        what = f"workflow {there.workflow!r} in version {there.workflow_version}"
        raise WrongState(
            f"flow {there.id} is there already and is another one, of {what}; take another flowId",
            [Problem(f"flow {there.id} is of {what}", "/flowId"), *differences],
        )
    return Begun(there.id, created, there.workflow_version)
