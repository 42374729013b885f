"""What a session has to send to its worker: attempts that were handed out, answers, and at last a goodbye."""

from __future__ import annotations

from collections import deque
from typing import Any

import trio

from orchy.dispatch.attempt_leases import Attempt
from orchy.rpc.api.convert import EncodedActions
from orchy.rpc.api.leases import WorkerLease, attempt_of, messages_of
from orchy.rpc.api.limits import SessionLimits
from orchy.rpc.generated import action_service_pb2 as pb
from orchy.store.queues import Claimed, Receipt

#: An action's name, what the worker gets, and with what it is given back.
_Unsent = tuple[str, bytes, Receipt]


class Outgoing:
    """Attempts stay until the connection has taken them: until then they can go back."""

    def __init__(self, lease: WorkerLease, limits: SessionLimits) -> None:
        self._lease = lease
        self._limits = limits
        self._unsent: deque[_Unsent] = deque()
        self._unsent_bytes = 0
        self._being_sent: list[_Unsent] = []
        self._taken: list[Any] = []
        self._extended: list[Any] = []
        self._answers = 0  # messages that these are for
        self._answers_free = trio.Semaphore(limits.messages_at_once)
        self._goodbye_due = False

    def __len__(self) -> int:
        """How many attempts the worker has not got yet, as far as is known."""
        return len(self._unsent) + len(self._being_sent)

    @property
    def is_full(self) -> bool:
        """Whether the worker has left so much unread that it is to get no more."""
        return self._unsent_bytes > self._limits.unsent_bytes_max

    # In.

    def add_attempts(self, action_name: str, claimed: Claimed) -> None:
        """These were handed out."""
        for body, receipt in zip(claimed.bodies, claimed.receipts, strict=True):
            self._unsent.append((action_name, body, receipt))
            self._unsent_bytes += len(body)

    async def reserve_answer(self) -> None:
        """Wait until the worker has taken some of the answers that there are."""
        try:
            self._answers_free.acquire_nowait()
        except trio.WouldBlock:
            await self._answers_free.acquire()

    def add_answer(self, number: int, outcomes: list[Any] | None, extended: list[bool] | None) -> None:
        """The answer to a message, for which there is a reservation."""
        if outcomes is not None:
            self._taken.append(pb.Taken(number=number, outcomes=outcomes))
        if extended is not None:
            self._extended.append(pb.Extended(number=number, extended=extended))
        self._answers += 1

    def add_goodbye(self) -> None:
        """Say goodbye, after the attempts that there are."""
        self._goodbye_due = True

    # Out.

    def next_message(self, *, with_attempts: bool) -> EncodedActions | None:
        """All that there is to send; None: nothing."""
        bodies = self._next_bodies() if with_attempts else []
        goodbye = self._goodbye_due and not self._unsent
        if not (self._taken or self._extended or goodbye or self._lease.has_news):
            return EncodedActions(bodies) if bodies else None
        lease_ms, asks = self._lease.take_news()
        message = pb.ServerMessage(
            taken=self._taken,
            extended=self._extended,
            goodbye=goodbye,
            leaseMillis=lease_ms,
            asks=messages_of(asks, pb.Attempt),
        )
        for _ in range(self._answers):
            self._answers_free.release()
        self._taken, self._extended, self._answers = [], [], 0
        self._goodbye_due &= not goodbye
        return EncodedActions(bodies, message.SerializeToString())

    def _next_bodies(self) -> list[bytes]:
        bodies: list[bytes] = []
        size_bytes = 0
        while self._unsent and size_bytes < self._limits.message_bytes:
            attempt = self._unsent.popleft()
            self._being_sent.append(attempt)
            size_bytes += len(attempt[1])
            bodies.append(attempt[1])
        self._unsent_bytes -= size_bytes
        return bodies

    def confirm_sent(self) -> None:
        """The connection has taken the last message."""
        self._being_sent.clear()

    # Back.

    def cancel_sending(self) -> None:
        """The connection broke before it took the last message."""
        self._unsent.extendleft(reversed(self._being_sent))
        self._unsent_bytes += sum(len(body) for _, body, _ in self._being_sent)
        self._being_sent.clear()

    def take_unsent(self) -> dict[str, Claimed]:
        """All attempts that can still go back, by action."""
        unsent: dict[str, list[tuple[bytes, Receipt]]] = {}
        for action_name, body, receipt in self._unsent:
            unsent.setdefault(action_name, []).append((body, receipt))
        self._unsent.clear()
        self._unsent_bytes = 0
        return {
            action_name: Claimed(tuple(body for body, _ in attempts), (), tuple(receipt for _, receipt in attempts))
            for action_name, attempts in unsent.items()
        }

    def has_unsent(self, attempt: Attempt | None = None) -> bool:
        """Whether an attempt, or any, waits to be sent."""
        if attempt is None:
            return bool(self._unsent)
        return any(attempt_of(receipt) == attempt for _, _, receipt in self._unsent)
