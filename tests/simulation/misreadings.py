"""Mutations of what a flow means (branches, joins, parameters), of the order of work, and of releasing resources."""

from __future__ import annotations

from collections import deque
from contextlib import AbstractContextManager
from typing import Any

import attrs
import trio

from orchy.actions.switch import Switch
from orchy.dispatch.demand import Demand
from orchy.dispatch.dispatcher import Dispatcher
from orchy.engine.mover import Mover
from orchy.errors import OrchyError
from orchy.flow.definition import ActionType, JoinMode
from orchy.flow.draft import Draft
from orchy.flow.effects import Record, RecordType
from orchy.flow.graph import Graph
from orchy.flow.system import Finish
from orchy.partition.timers import TimerLoop
from orchy.rpc.api import convert
from orchy.store.memory.store import MemoryStore
from orchy.store.queues import Claimed
from tests.simulation.replacing import replaced


def _all_joins_are(mode: JoinMode) -> AbstractContextManager[None]:
    of = Graph.of

    def mutated(workflow: Any) -> Any:
        actions = {id: attrs.evolve(action, join=mode) for id, action in workflow.actions.items()}
        return of(attrs.evolve(workflow, actions=actions))

    return replaced(Graph, "of", mutated)


def all_joins_start_on_their_first_edge() -> AbstractContextManager[None]:
    """ALL is treated as ANY."""
    return _all_joins_are(JoinMode.ANY)


def any_joins_wait_for_all_edges() -> AbstractContextManager[None]:
    """ANY is treated as ALL."""
    return _all_joins_are(JoinMode.ALL)


def a_switch_takes_another_branch() -> AbstractContextManager[None]:
    """A switch takes the branch after the right one."""
    start = Switch.start

    def mutated(self: Any, action: Any, context: Any) -> Any:
        answer = start(self, action, context)
        return attrs.evolve(answer, outcome=_next(action, answer.outcome)) if isinstance(answer, Finish) else answer

    return replaced(Switch, "start", mutated)


def a_switch_goes_another_way_than_it_says() -> AbstractContextManager[None]:
    """The history has the right branch, but the flow continues with another one."""
    settle = Graph.settle

    def mutated(self: Any, joins: Any, action_id: int, outcome: str) -> Any:
        action = self.workflow.actions[action_id]
        return settle(self, joins, action_id, _next(action, outcome) if action.name == "switch" else outcome)

    return replaced(Graph, "settle", mutated)


def _next(action: Any, outcome: str) -> str:
    outcomes = list(action.next)
    return outcomes[(outcomes.index(outcome) + 1) % len(outcomes)]


def workers_get_empty_parameters() -> AbstractContextManager[None]:
    """The message for the worker has no data."""
    return replaced(convert, "fill_map", lambda data, items: None)


def parameters_are_not_resolved() -> AbstractContextManager[None]:
    """Workers get the templates."""

    def parameters(self: Any, action_id: int) -> Any:
        action = self.workflow.actions[action_id]
        assert action.type is ActionType.USER
        return _AsItIs(action.parameters)

    return replaced(Graph, "parameters", parameters)


@attrs.frozen
class _AsItIs:
    value: Any

    def resolve(self, context: Any) -> Any:
        return self.value, ()


def a_claim_puts_back_in_the_wrong_order() -> AbstractContextManager[None]:
    """Entries that were popped but did not fit into the response are put back in reverse order."""
    claim = MemoryStore.claim

    async def mutated(self: Any, action_name: str, partitions: Any, limit: int, worker: str, lease_ms: int = 0) -> Any:
        claimed = await claim(self, action_name, partitions, limit, worker, lease_ms)
        if claimed.receipts and sum(map(len, claimed.bodies)) >= self.claim_bytes_max:
            queue = self._partition(claimed.receipts[-1].partition).queues.get(action_name, ())
            queue_left = [queue.popleft() for _ in range(min(len(queue), limit - len(claimed.bodies)))]
            if queue_left:
                queue.extendleft(queue_left)
        return claimed

    return replaced(MemoryStore, "claim", mutated)


def a_claim_takes_from_the_wrong_end() -> AbstractContextManager[None]:
    """The newest attempt of a queue is handed out first."""
    claim = MemoryStore.claim

    async def mutated(self: Any, action_name: str, partitions: Any, *more: Any) -> Any:
        await trio.lowlevel.checkpoint()
        for number in partitions:
            self._partition(number).queues.get(action_name, []).reverse()
        return await claim(self, action_name, partitions, *more)

    return replaced(MemoryStore, "claim", mutated)


def what_is_given_back_goes_to_the_end() -> AbstractContextManager[None]:
    """An attempt that is given back waits behind all others again."""
    give_back = MemoryStore.give_back

    async def mutated(self: Any, claimed: Any) -> int:
        lengths = {
            (number, name): len(queue)
            for number, partition in self._partitions.items()
            for name, queue in partition.queues.items()
        }
        given_back: int = await give_back(self, claimed)
        for number, partition in self._partitions.items():
            for name, queue in partition.queues.items():
                queue.rotate(lengths.get((number, name), 0) - len(queue))
        return given_back

    return replaced(MemoryStore, "give_back", mutated)


def what_is_given_back_is_in_the_wrong_order() -> AbstractContextManager[None]:
    """Attempts are given back to the front, but in reverse order."""
    give_back = MemoryStore.give_back

    async def mutated(self: Any, claimed: Any) -> int:
        given_back: int = await give_back(self, Claimed(claimed.bodies[::-1], (), claimed.receipts[::-1]))
        return given_back

    return replaced(MemoryStore, "give_back", mutated)


def an_extension_moves_nothing() -> AbstractContextManager[None]:
    """The extension is granted, but the timeout stays where it is."""

    async def mutated(self: Any, partition: int, timer: Any) -> bool:
        await trio.lowlevel.checkpoint()
        return bool(self._partition(partition).timers.get(timer.key, 0) > self._now_ms())

    return replaced(MemoryStore, "extend", mutated)


def a_timer_slot_leaks() -> AbstractContextManager[None]:
    """A timer that could not be handled keeps its slot."""

    async def mutated(self: Any, due: Any, place: Any) -> None:
        try:
            await self._fire(due)
        except OrchyError:
            return
        self._observe(due.late_ms)
        place.release()

    return replaced(TimerLoop, "_handle", mutated)


def a_leader_that_leaves_drops_its_letters() -> AbstractContextManager[None]:
    """When the caller that does the work for others leaves, the others' events are never answered."""

    async def mutated(self: Any, flow_id: str, mailbox: Any) -> None:
        envelopes = [mailbox.envelopes.popleft() for _ in range(min(len(mailbox.envelopes), self._batch_size))]
        try:
            await self._move(flow_id, envelopes)
        except OrchyError as error:
            for envelope in envelopes:
                envelope.answer = envelope.answer or error

    return replaced(Mover, "_take_envelopes", mutated)


def a_place_that_was_kept_stays_kept() -> AbstractContextManager[None]:
    """Reservations of a commit that was not made are never released."""
    return replaced(Demand, "release", lambda self: None)


def what_is_postponed_is_forgotten() -> AbstractContextManager[None]:
    """What is postponed does not start with the next commit."""
    start = Draft.start

    def mutated(self: Any, action_id: int, attempt: int) -> None:
        before = len(self.effects)
        start(self, action_id, attempt)
        if any(isinstance(one, Record) and one.type is RecordType.POSTPONED for one in self.effects[before:]):
            self.effects.pop()

    return replaced(Draft, "start", mutated)


def a_poll_that_has_left_waits_on() -> AbstractContextManager[None]:
    """The dispatcher keeps polls that have timed out."""

    async def mutated(self: Any, action_name: str) -> None:
        event = trio.Event()
        self._waiting.setdefault(action_name, deque()).append(event)
        await event.wait()

    return replaced(Dispatcher, "_wait", mutated)


MISREADINGS = (
    all_joins_start_on_their_first_edge,
    any_joins_wait_for_all_edges,
    a_switch_takes_another_branch,
    a_switch_goes_another_way_than_it_says,
    workers_get_empty_parameters,
    parameters_are_not_resolved,
    a_claim_puts_back_in_the_wrong_order,
    a_claim_takes_from_the_wrong_end,
    what_is_given_back_goes_to_the_end,
    what_is_given_back_is_in_the_wrong_order,
    an_extension_moves_nothing,
    a_timer_slot_leaks,
    a_leader_that_leaves_drops_its_letters,
    a_place_that_was_kept_stays_kept,
    what_is_postponed_is_forgotten,
    a_poll_that_has_left_waits_on,
)
