"""All streams of a server's workers: their number is limited, their leases are renewed, their workers are asked."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import trio

from orchy.dispatch.attempt_leases import Attempt, AttemptLeases
from orchy.dispatch.dispatcher import Dispatcher
from orchy.engine.lost_attempts import Holding, Silence
from orchy.engine.orchestrator import Orchestrator
from orchy.errors import OrchyError
from orchy.rpc.api.limits import LIMITS, TIMING, SessionLimits, SessionTiming
from orchy.rpc.api.session import Session
from orchy.rpc.grpc.framing import Code, Status
from orchy.runtime.gather import gather
from orchy.telemetry.unexpected import Where, note, survive

#: How long a worker may be silent, by default.
LEASE_SECONDS = 30.0
#: Sessions whose leases are being renewed at the same time.
RENEWING_AT_ONCE = 8

log = logging.getLogger(__name__)


class WorkSessions:
    """Those of one server; they run in a nursery of their own, beside the calls that carry them."""

    def __init__(
        self,
        orchestrator: Orchestrator,
        dispatcher: Dispatcher,
        leases: AttemptLeases,
        lease_seconds: float = LEASE_SECONDS,
        limits: SessionLimits = LIMITS,
        timing: SessionTiming = TIMING,
    ) -> None:
        self._limits = limits
        self._timing = timing
        self._orchestrator = orchestrator
        self._dispatcher = dispatcher
        self._leases = leases
        self._lease_seconds = lease_seconds
        self._nursery: trio.Nursery | None = None
        self._sessions: dict[Session, None] = {}
        self.open = 0
        self.handed_out = 0  # on streams, in all

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Let sessions run until cancelled."""
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            interval = self._lease_seconds / 3
            while True:
                due_at = trio.current_time() + interval
                await trio.sleep(interval)
                # After a stall of this node, what workers have sent meanwhile is not read yet: nobody counts as silent.
                stalled = trio.current_time() - due_at > interval
                leased = [
                    one for one in self._sessions if one.lease.lease_ms and not (stalled and one.lease.has_expired)
                ]
                await gather(self._renew, leased, RENEWING_AT_ONCE)

    async def serve(self, messages: AsyncIterator[Any]) -> AsyncGenerator[Any]:
        """The answers to a worker's messages. Raises Status."""
        assert self._nursery is not None, "`run` is running"
        if self.open >= self._limits.sessions_max:
            raise Status(Code.UNAVAILABLE, "this server has as many streams as it takes")
        session = Session(
            self._orchestrator,
            self._dispatcher,
            self._nursery,
            self._leases,
            self._lease_seconds,
            self._limits,
            self._timing,
        )
        try:
            self._nursery.start_soon(self._run, session, messages)
        except RuntimeError:  # it is closed: the server is gone in a moment
            raise Status(Code.UNAVAILABLE, "this server has stopped") from None
        self.open += 1
        self._sessions[session] = None
        try:
            while (reply := await session.reply()) is not None:
                yield reply
            if session.status is not None:
                raise session.status
        finally:
            session.leave()

    async def _run(self, session: Session, messages: AsyncIterator[Any]) -> None:
        try:
            with survive(Where.STREAM, "the end of a worker's stream"):
                await session.run(messages)
        finally:
            self.open -= 1
            self.handed_out += session.handed_out
            del self._sessions[session]

    async def _renew(self, session: Session) -> None:
        """Let a worker keep what it holds, if it is alive."""
        if session.lease.has_expired:
            session.expire()
            return
        try:
            renewed = await self._leases.renew(session.lease.to_renew(), session.lease.remaining_ms())
        except OrchyError as error:
            log.warning("leases of what worker %s holds could not be renewed: %s", session.worker, error)
        except Exception as error:  # one worker's leases are not the server's end
            note(Where.STREAM, f"leases of worker {session.worker}", error)
        else:
            session.lease.forget(attempt for attempt, good in renewed.items() if not good)

    async def ask(self, worker: str, attempt: Attempt) -> Holding | Silence:
        """Whether a worker holds an attempt, as it says on its streams to this node."""
        answers = await gather(lambda one: one.ask(attempt), [one for one in self._sessions if one.worker == worker])
        said = [answer for answer in answers if answer is not Silence.SILENT]
        return min(said, key=lambda answer: (not answer.holds, answer.up_ms), default=Silence.SILENT)

    @property
    def handed_out_total(self) -> int:
        """Attempts that were handed out on streams, until now."""
        return self.handed_out + sum(session.handed_out for session in self._sessions)

    @property
    def leased(self) -> int:
        """Attempts that workers hold on leases which this node renews."""
        return sum(len(session.lease.held) for session in self._sessions)
