"""The commits that a node would send for a flow, made without a node."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import attrs
from msgspec.structs import replace

from bench.harness.processes import PARTITIONS
from bench.harness.work import chain
from orchy.actions import SYSTEM_ACTIONS
from orchy.engine.transition import Transition, build_commit
from orchy.flow.draft import Rules
from orchy.flow.events import Completed, Event, Started
from orchy.flow.execution import Flow, Phase
from orchy.flow.graph import Graph
from orchy.flow.validation.definitions import parse_workflow
from orchy.ring import partition_of
from orchy.rpc.api.convert import encode_action
from orchy.store.flows import Commit

RULES = Rules(SYSTEM_ACTIONS, {})
WEEK_MS = 604_800_000


def graph_of(definition: dict[str, Any]) -> Graph:
    """The compiled graph of a definition."""
    workflow = parse_workflow(json.dumps(definition).encode(), SYSTEM_ACTIONS, {}).workflow
    assert workflow is not None
    return Graph.of(attrs.evolve(workflow, version=1))


def new_flow(graph: Graph, flow_id: str) -> Flow:
    """A flow that has not started yet."""
    return Flow(id=flow_id, workflow=graph.workflow.name, workflow_version=1, input={})


def take(
    graph: Graph, flow: Flow, events: Sequence[Event], expected_version: int, partition: int = 0
) -> tuple[Flow, Commit]:
    """Apply events as the mover does: the new flow, and its commit."""
    transition = Transition(graph, flow, RULES)
    for event in events:
        transition.take(event)
    transition.encode(encode_action)
    commit = build_commit(transition, partition=partition, expected_version=expected_version, retain_ms=WEEK_MS)
    return transition.flow, commit


def results(flow: Flow) -> list[Event]:
    """A result for each attempt that waits for a worker."""
    return [
        Completed(action_id, running.attempt, {}, "worker")
        for action_id, running in flow.running.items()
        if running.phase is Phase.QUEUED
    ]


def three_commits(graph: Graph, flow_id: str, partition: int) -> list[Commit]:
    """All commits of one flow of *three*."""
    flow, commit = take(graph, new_flow(graph, flow_id), [Started()], 0, partition)
    commits = [commit]
    while not flow.state.over:
        flow, commit = take(graph, flow, results(flow), len(commits), partition)
        commits.append(commit)
    return commits


def finished_threes(count: int) -> Iterator[Commit]:
    """Finished flows of *three*, each in one commit: the store ends in the same state, at less cost."""
    graph = graph_of(chain("three", 3))
    flow, _ = take(graph, new_flow(graph, "flow"), [Started()], 0)
    events = [Started()]
    while not flow.state.over:
        events += results(flow)
        flow, _ = take(graph, new_flow(graph, "flow"), events, 0)
    _, commit = take(graph, new_flow(graph, "flow"), events, 0)
    for _ in range(count):
        flow_id = str(uuid.uuid4())
        yield replace(commit, flow_id=flow_id, partition=partition_of(flow_id, PARTITIONS))
