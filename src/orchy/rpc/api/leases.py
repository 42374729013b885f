"""What a worker holds that came on its stream, and whether the worker is there: leases, renewed for all of it together.

A worker that renews says something at least once in a third of a lease. While it does, its node renews the leases of
what it holds, those that are older than a third: an attempt that ends sooner costs nothing but its place in a
dictionary. A lease runs from when the worker was last heard of.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import attrs
import trio

from orchy.dispatch.attempt_leases import Attempt
from orchy.engine.lost_attempts import Holding, Silence
from orchy.store.queues import Receipt

#: How long a worker may take to say whether it holds an attempt.
ANSWER_SECONDS = 2.0
#: The most attempts that one message asks for.
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
    lease_ms: int = 0
    held: dict[Attempt, float] = attrs.field(factory=dict)  # since when
    heard_at: float = attrs.field(factory=trio.current_time)
    _asked: dict[Attempt, _Question] = attrs.field(factory=dict)
    _to_ask: list[Attempt] = attrs.field(factory=list)
    _is_deaf: bool = False  # it has not answered, and nothing was heard since
    _lease_is_told: bool = False

    def heard(self, renews: bool) -> None:
        """The worker said something."""
        self.heard_at = trio.current_time()
        self._is_deaf = False
        if renews:
            self.lease_ms = self.length_ms

    def take(self, receipts: Iterable[Receipt]) -> None:
        """Attempts are on their way to the worker."""
        if self.lease_ms:
            now = trio.current_time()
            for receipt in receipts:
                self.held[receipt.flow_id, receipt.action_id, receipt.attempt] = now

    def bring(self, results: Iterable[Any]) -> None:
        """Attempts have ended, as messages say."""
        if self.held:
            for result in results:
                self.held.pop((result.flowId, result.actionId, result.retryCount), None)

    # Renewal.

    def left_ms(self) -> int:
        """How much is left of the worker's time; 0 or less: it was not heard of for a lease."""
        return self.lease_ms - int((trio.current_time() - self.heard_at) * 1000)

    def to_renew(self) -> list[Attempt]:
        """What has been held for longer than a third of a lease."""
        before = trio.current_time() - self.lease_ms / 3000
        return [attempt for attempt, since in self.held.items() if since <= before]

    def forget(self, attempts: Iterable[Attempt]) -> None:
        """These have no lease any more."""
        for attempt in attempts:
            self.held.pop(attempt, None)

    # Questions.

    async def ask(self, attempt: Attempt) -> Holding | Silence:
        """Whether the worker holds an attempt; callers wake whoever sends `to_tell`."""
        if not self.lease_ms or self._is_deaf:
            return Silence.SILENT
        question = self._asked.get(attempt)
        if question is None:
            question = self._asked[attempt] = _Question()
            self._to_ask.append(attempt)
        question.waiting += 1
        try:
            with trio.move_on_after(ANSWER_SECONDS) as waited:
                await question.answered.wait()
            if waited.cancelled_caught:
                self._is_deaf = trio.current_time() - self.heard_at >= ANSWER_SECONDS
        finally:
            question.waiting -= 1
            if not question.waiting:
                self._asked.pop(attempt, None)
        return question.answer

    def answer(self, holding: Sequence[Attempt], missing: Sequence[Attempt], up_ms: int) -> None:
        """What the worker says that it holds, asked or not, and what it does not."""
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

    def to_tell(self) -> tuple[int, list[Attempt]]:
        """The length of the lease, if the worker is to be told of it, and what it is to be asked for."""
        length_ms = 0
        if self.lease_ms and not self._lease_is_told:
            self._lease_is_told = True
            length_ms = self.lease_ms
        asks, self._to_ask = self._to_ask[:ASKS_MAX], self._to_ask[ASKS_MAX:]
        return length_ms, asks

    @property
    def has_to_tell(self) -> bool:
        """Whether `to_tell` would say anything."""
        return bool(self._to_ask) or bool(self.lease_ms and not self._lease_is_told)


def is_of(receipt: Receipt, attempt: Attempt) -> bool:
    """Whether a receipt is an attempt's."""
    return (receipt.flow_id, receipt.action_id, receipt.attempt) == attempt


def attempts_of(messages: Iterable[Any]) -> list[Attempt]:
    """`Attempt` messages as attempts."""
    return [(message.flowId, message.actionId, message.retryCount) for message in messages]


def messages_of(attempts: Iterable[Attempt], kind: Any) -> list[Any]:
    """And back."""
    return [kind(flowId=flow_id, actionId=action_id, retryCount=number) for flow_id, action_id, number in attempts]
