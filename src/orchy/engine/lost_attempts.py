"""What becomes of an attempt whose worker's lease has run out.

The node that had handed it out may be gone while the worker lives, or the attempt may never have left that node. So the
worker is asked, if it has a stream to this node: what it holds is renewed, what it has never received is handed out
again and uses up no attempt. Where nobody answers for it, the worker is lost, and its attempt with it.
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
    """A worker that has no stream here, or does not answer on it."""

    SILENT = "silent"


@attrs.frozen
class Holding:
    """A worker's answer. Where it does not hold the attempt: for how long it has been running, in ms."""

    holds: bool
    up_ms: int = 0


class Workers(Protocol):
    """Whoever has the workers' streams."""

    async def ask(self, worker: str, attempt: Attempt) -> Holding | Silence:
        """Whether a worker holds an attempt; takes a few seconds at most."""
        ...


class LostAttempts:
    """Handles timers that are due: those of leases by asking, all others as they are."""

    def __init__(self, orchestrator: Orchestrator, store: FlowStore, workers: Workers, lease_ms: int) -> None:
        self._orchestrator = orchestrator
        self._store = store
        self._workers = workers
        self._lease_ms = lease_ms
        self.lost = 0
        self.never_received = 0

    async def fire(self, due: DueTimer) -> None:
        """Handle a timer. Raises OrchyError: it comes again then."""
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
        else:  # another process of that name had it
            self.lost += 1
            await self._orchestrator.fire(due, worker)
