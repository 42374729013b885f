"""What a worker holds that came on its stream, and whether the worker is alive: one lease for all of it.

A worker that renews sends something at least once in a third of a lease. While it does, its node renews the leases of
what it has held for longer than a third: an attempt that ends sooner costs nothing but its place in a dictionary. A
lease runs from when the worker was last heard.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import attrs
import trio

from orchy.dispatch.attempt_leases import Attempt
from orchy.engine.lost_attempts import Holding, Silence
from orchy.rpc.api.limits import TIMING
from orchy.store.queues import Receipt

#: The most attempts that one message asks about.
ASKS_MAX = 1_000


@attrs.define(eq=False)
class _Question:
    answered: trio.Event = attrs.field(factory=trio.Event)
    answer: Holding | Silence = Silence.SILENT
    waiting: int = 0


@attrs.define(eq=False)
class WorkerLease:
    """One stream's. `lease_ms` is 0 until the worker has said that it renews."""

    length_ms: int
    answer_seconds: float = TIMING.answer_seconds
    lease_ms: int = 0
    held: dict[Attempt, float] = attrs.field(factory=dict)  # since when
    heard_at: float = attrs.field(factory=trio.current_time)
    _asked: dict[Attempt, _Question] = attrs.field(factory=dict)
    _to_ask: list[Attempt] = attrs.field(factory=list)
    _unresponsive: bool = False  # it did not answer a question, and nothing was heard since
    _announced: bool = False  # the worker knows how long the lease is

    def heard(self, renews: bool) -> None:
        """A message came from the worker."""
        self.heard_at = trio.current_time()
        self._unresponsive = False
        if renews:
            self.lease_ms = self.length_ms

    def add(self, receipts: Iterable[Receipt]) -> None:
        """These attempts are being sent to the worker."""
        if self.lease_ms:
            now = trio.current_time()
            for receipt in receipts:
                self.held[attempt_of(receipt)] = now

    def remove_ended(self, results: Iterable[Any]) -> None:
        """The attempts of these `ActionResult`s have ended."""
        if self.held:
            for result in results:
                self.held.pop((result.flowId, result.actionId, result.retryCount), None)

    # Renewal.

    def remaining_ms(self) -> int:
        """How much is left of the lease."""
        return self.lease_ms - int((trio.current_time() - self.heard_at) * 1000)

    @property
    def has_expired(self) -> bool:
        """Whether the worker was silent for a whole lease."""
        return self.remaining_ms() <= 0

    def to_renew(self) -> list[Attempt]:
        """The attempts that have been held for longer than a third of a lease."""
        before = trio.current_time() - self.lease_ms / 3000
        return [attempt for attempt, since in self.held.items() if since <= before]

    def forget(self, attempts: Iterable[Attempt]) -> None:
        """These attempts have no lease any more."""
        for attempt in attempts:
            self.held.pop(attempt, None)

    # Questions.

    async def ask(self, attempt: Attempt) -> Holding | Silence:
        """Whether the worker holds an attempt. Callers see to it that `take_news` is sent."""
        if not self.lease_ms or self._unresponsive:
            return Silence.SILENT
        question = self._asked.get(attempt)
        if question is None:
            question = self._asked[attempt] = _Question()
            self._to_ask.append(attempt)
        question.waiting += 1
        try:
            with trio.move_on_after(self.answer_seconds) as waited:
                await question.answered.wait()
            if waited.cancelled_caught:
                self._unresponsive = trio.current_time() - self.heard_at >= self.answer_seconds
        finally:
            question.waiting -= 1
            if not question.waiting:
                self._asked.pop(attempt, None)
        return question.answer

    def answer(self, holding: Sequence[Attempt], missing: Sequence[Attempt], up_ms: int) -> None:
        """What the worker says it holds, asked or not, and what it does not hold."""
        now = trio.current_time()
        for attempt in holding:
            self.held[attempt] = now
            self._settle(attempt, Holding(True))
        for attempt in missing:
            self.held.pop(attempt, None)
            self._settle(attempt, Holding(False, up_ms))

    def _settle(self, attempt: Attempt, answer: Holding) -> None:
        question = self._asked.get(attempt)
        if question is not None:
            question.answer = answer
            question.answered.set()

    def take_news(self) -> tuple[int, list[Attempt]]:
        """What to send: the length of the lease in ms, or 0 if the worker knows it, and the attempts to ask about."""
        length_ms = 0
        if self.lease_ms and not self._announced:
            self._announced = True
            length_ms = self.lease_ms
        asks, self._to_ask = self._to_ask[:ASKS_MAX], self._to_ask[ASKS_MAX:]
        return length_ms, asks

    @property
    def has_news(self) -> bool:
        """Whether there is something to send."""
        return bool(self._to_ask) or bool(self.lease_ms and not self._announced)


def attempt_of(receipt: Receipt) -> Attempt:
    """Whose receipt it is."""
    return receipt.flow_id, receipt.action_id, receipt.attempt


def attempts_of(messages: Iterable[Any]) -> list[Attempt]:
    """The attempts that `Attempt` messages name."""
    return [(message.flowId, message.actionId, message.retryCount) for message in messages]


def messages_of(attempts: Iterable[Attempt], kind: Any) -> list[Any]:
    """Attempts as messages of a `kind` with the fields of `Attempt`."""
    return [kind(flowId=flow_id, actionId=action_id, retryCount=number) for flow_id, action_id, number in attempts]
