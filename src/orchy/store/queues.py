"""Queues of attempts, and how these come to the workers: a part of the store's port."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from orchy.flow.runs import NO_RUN, RunId


class QueueEntry(Struct, frozen=True):
    """An attempt for the workers. `body` is handed out as it is; `timeout_ms` runs from the handing out.

    With a `worker` it is handed out by the commit itself, to that worker, and never is in a queue. `lease_ms` > 0: the
    worker says from time to time that it lives; if the attempt may take longer, its LOST timer is set to that.
    """

    action_name: str
    action_id: RunId
    attempt: int
    timeout_ms: int
    body: bytes
    worker: str | None = None
    lease_ms: int = 0


class Receipt(Struct, frozen=True):
    """With what a store takes an attempt back that it handed out; `head` is its own affair, `due_ms` its timeout.

    `flow_id`, `action_id` and `attempt` say which attempt it is.
    """

    partition: int
    head: bytes
    due_ms: int = 0
    flow_id: str = ""
    action_id: RunId = NO_RUN
    attempt: int = 0


class HandOut(Struct, frozen=True):
    """To which worker an attempt was handed out last (as it calls itself), and how long ago."""

    worker: str
    age_ms: int


class Claimed(Struct, frozen=True):
    """What a claim got: bodies, and for each its receipt. `emptied`: of the partitions that it came to, those in which
    no entry of the action is left.
    """

    bodies: Sequence[bytes]
    emptied: Sequence[int]
    receipts: Sequence[Receipt] = ()


class QueueStore(Protocol):
    """Attempts that wait for workers."""

    async def claim(
        self, action_name: str, partitions: Sequence[int], limit: int, worker_id: str, lease_ms: int = 0
    ) -> Claimed:
        """Hand out at most `limit` (<= BATCH_MAX) attempts of one action, from the partitions in the order given.

        It stops with the attempt by which the bodies together come to CLAIM_BYTES_MAX.

        Each handed-out attempt gets its timeout timer and a HANDED_OUT history entry. An entry whose attempt
        is not the running one any more is dropped; one of a paused flow is set aside until the flow is resumed.
        `lease_ms` is as that of a QueueEntry.
        """
        ...

    async def give_back(self, claimed: Claimed) -> int:
        """Put attempts that did not reach their worker back to the front of their queues, and drop their timeouts.

        Those whose timeout is not set any more have ended, and those whose timeout is due end now: they are passed
        over. Each one that went back gets a GIVEN_BACK history entry. How many did.
        """
        ...

    async def last_hand_out(self, partition: int, flow_id: str, action_id: RunId, attempt: int) -> HandOut | None:
        """To whom an attempt was handed out last, as the history has it; None if it has nothing of that."""
        ...
