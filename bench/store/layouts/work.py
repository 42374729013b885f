"""The work that every layout gets: the commits of real steps of the machine, and how a node would make them.

A layout is driven through `Driven`, which today's store and the spikes both are.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import attrs
from msgspec.structs import replace

from bench.harness.commits import graph_of, new_flow, results, take
from bench.harness.processes import PARTITIONS
from bench.harness.work import chain
from orchy.flow.events import Cancel, Event, Pause, Resume, Started, TimerFired, TimerKind
from orchy.flow.execution import Flow, State
from orchy.flow.graph import Graph
from orchy.ring import partition_of
from orchy.store.flows import Commit

WORKER = "worker"  # as in the results
#: A worker with a stream renews what it has; its lease is shorter than the timeout of an hour.
LEASE_MS = 30_000
ALL_PARTITIONS = range(PARTITIONS)
CLAIM_MAX = 100
PARTITIONS_PER_CLAIM = 32


class Driven(Protocol):
    """What the work needs of a layout. Each call raises when anything is refused that should be made."""

    async def commit(self, commits: Sequence[Commit]) -> None:
        """Make commits, so many in a call or a write as the layout is set to."""
        ...

    async def claim(self, partitions: Sequence[int], limit: int) -> list[tuple[str, Any]]:
        """Hand out attempts: the flow of each, and what `give_back` needs."""
        ...

    async def give_back(self, taken: Sequence[Any]) -> int:
        """Put attempts back."""
        ...

    async def scan(self, partitions: Sequence[int]) -> list[str]:
        """Take due timers: the flows of each."""
        ...

    async def expire(self, partitions: Sequence[int]) -> int:
        """Remove what is over."""
        ...


@attrs.define
class Flows:
    """Flows of a chain of user actions, stepped by the machine ahead of time."""

    count: int
    queued: bool
    length: int = 3
    retain_ms: int = 604_800_000
    graph: Graph = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.graph = graph_of(chain("three", self.length))

    def of(self, events: Callable[[Flow], Sequence[Event] | None]) -> list[list[Commit]]:
        """The commits of each flow; `events` says what happens next to a flow, None when nothing does."""
        return [self._one(str(uuid.uuid4()), events) for _ in range(self.count)]

    def _one(self, flow_id: str, events: Callable[[Flow], Sequence[Event] | None]) -> list[Commit]:
        flow, commits, partition = new_flow(self.graph, flow_id), [], partition_of(flow_id, PARTITIONS)
        now: Sequence[Event] | None = [Started()]
        while now is not None:
            flow, commit = take(self.graph, flow, now, len(commits), partition)
            commits.append(self._shaped(commit))
            now = None if flow.state.over else events(flow)
        return commits

    def _shaped(self, commit: Commit) -> Commit:
        if commit.retain_ms is not None:
            commit = replace(commit, retain_ms=self.retain_ms)
        if self.queued:
            return commit
        entries = [replace(entry, worker=WORKER, lease_ms=LEASE_MS) for entry in commit.enqueue]
        return replace(commit, enqueue=entries)


def straight(flows: Flows) -> list[list[Commit]]:
    """Start to end: a result for all that runs, again and again."""
    return flows.of(results)


def paused(flows: Flows) -> list[list[Commit]]:
    """Paused after the start, and resumed."""

    paused_once: set[str] = set()

    def events(flow: Flow) -> Sequence[Event]:
        if flow.state is State.PAUSED:
            return [Resume()]
        if flow.id in paused_once:
            return results(flow)
        paused_once.add(flow.id)
        return [Pause()]

    return flows.of(events)


def cancelled_in_a_pause(flows: Flows) -> list[list[Commit]]:
    """Paused after the start, and cancelled."""
    return flows.of(lambda flow: [Cancel() if flow.state is State.PAUSED else Pause()])


def timed_out(flows: Flows) -> list[list[Commit]]:
    """The timeout of the first attempt fires, and the flow fails."""

    def events(flow: Flow) -> Sequence[Event]:
        ((run_id, running),) = flow.running.items()
        return [TimerFired(TimerKind.TIMEOUT, run_id, running.attempt)]

    return [[_due_at_once(commit) for commit in commits] for commits in flows.of(events)]


def _due_at_once(commit: Commit) -> Commit:
    entries = [replace(entry, timeout_ms=1, lease_ms=0) for entry in commit.enqueue]
    return replace(commit, enqueue=entries)


async def in_waves(layout: Driven, flows: Sequence[Sequence[Commit]], width: int = 1_000) -> None:
    """A list of starts, then all first results, and so on, for so many flows at a time."""
    for first in range(0, len(flows), width):
        for stage in zip(*flows[first : first + width], strict=True):
            await layout.commit(stage)


async def claim_all(layout: Driven, wanted: int) -> list[tuple[str, Any]]:
    """Claims of a hundred, over half of the partitions each, until nothing is left."""
    taken: list[tuple[str, Any]] = []
    for first in range(0, PARTITIONS, PARTITIONS_PER_CLAIM):
        partitions = ALL_PARTITIONS[first : first + PARTITIONS_PER_CLAIM]
        while got := await layout.claim(partitions, CLAIM_MAX):
            taken += got
            if len(got) < CLAIM_MAX:
                break
    assert len(taken) == wanted, f"{len(taken)} attempts were handed out, not {wanted}"
    return taken


async def through_queues(layout: Driven, flows: Sequence[Sequence[Commit]], width: int = 1_000) -> None:
    """Each attempt passes through a queue and a claim."""
    for first in range(0, len(flows), width):
        part = flows[first : first + width]
        for number, stage in enumerate(zip(*part, strict=True)):
            await layout.commit(stage)
            if number < len(part[0]) - 1:
                await claim_all(layout, len(part))


async def with_pauses(layout: Driven, flows: Sequence[Sequence[Commit]], width: int = 1_000) -> None:
    """Paused while the first attempt is in its queue: claims find nothing. Some are given back once."""
    for first in range(0, len(flows), width):
        part = flows[first : first + width]
        start, pause, resume, *rest = zip(*part, strict=True)
        await layout.commit(start)
        await layout.commit(pause)
        await claim_all(layout, 0)
        await layout.commit(resume)
        taken = await claim_all(layout, len(part))
        back = [receipt for _, receipt in taken[: len(taken) // 10]]
        assert await layout.give_back(back) == len(back)
        await claim_all(layout, len(back))
        for number, stage in enumerate(rest):
            await layout.commit(stage)
            if number < len(rest) - 1:
                await claim_all(layout, len(part))


async def with_timeouts(layout: Driven, flows: Sequence[Sequence[Commit]], width: int = 1_000) -> None:
    """Each first attempt times out: a scan takes its timer, and a commit handles it."""
    for first in range(0, len(flows), width):
        part = flows[first : first + width]
        await layout.commit([commits[0] for commits in part])
        following = {commits[0].flow_id: commits[1] for commits in part}
        while following:
            await layout.commit([following.pop(flow_id) for flow_id in await layout.scan(ALL_PARTITIONS)])
