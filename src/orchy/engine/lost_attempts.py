"""Handles attempts whose worker's lease has run out.

The node that handed out the attempt may be gone while the worker lives, or the attempt may never have left that node.
So the worker is asked, if it has a stream to this node: an attempt that it holds is renewed; one that it never received
is handed out again without using up an attempt. If there is no answer, the worker is lost, and the attempt with it.
"""

from __future__ import annotations

from enum import Enum
from typing import Protocol

import attrs

from orchy.dispatch.attempt_leases import Attempt
from orchy.engine.orchestrator import Orchestrator
from orchy.flow.events import TimerKind
from orchy.store.flows import FlowStore
from orchy.store.timers import DueTimer


class Silence(Enum):
    """The worker has no stream to this node, or does not answer."""

    SILENT = "silent"


@attrs.frozen
class Holding:
    """A worker's answer. `up_ms` is how long it has been running, given if it does not hold the attempt."""

    holds: bool
    up_ms: int = 0


class Workers(Protocol):
    """Port to the streams of workers."""

    async def ask(self, worker: str, attempt: Attempt) -> Holding | Silence:
        """Ask a worker whether it holds an attempt; takes a few seconds at most."""
        ...


class LostAttempts:
    """Fires due timers. For those of leases it asks the worker first."""

    def __init__(self, orchestrator: Orchestrator, store: FlowStore, workers: Workers, lease_ms: int) -> None:
        self._orchestrator = orchestrator
        self._store = store
        self._workers = workers
        self._lease_ms = lease_ms
        self.lost = 0
        self.never_received = 0

    async def fire(self, due: DueTimer) -> None:
        """Handle a due timer. If this raises OrchyError, the store delivers the timer again."""
        key = due.key
        if key.kind is not TimerKind.LOST:
            await self._orchestrator.fire(due)
            return
        attempt = (key.flow_id, key.action_id, key.attempt)
        handed_out = await self._store.last_hand_out(due.partition, *attempt)
        worker = handed_out.worker if handed_out else ""
        answer = await self._workers.ask(worker, attempt) if worker else Silence.SILENT
        if answer is Silence.SILENT:
            self.lost += 1
            await self._orchestrator.fire(due, worker)
        elif answer.holds:
            await self._store.renew_attempts(due.partition, [key], self._lease_ms)
        elif handed_out is not None and answer.up_ms > handed_out.age_ms:
            self.never_received += 1
            await self._orchestrator.hand_out_again(due)
        else:  # the attempt went to an earlier process of the same name
            self.lost += 1
            await self._orchestrator.fire(due, worker)
