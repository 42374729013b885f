"""The store's port for queues: attempts that wait for workers, and how they are handed out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from orchy.flow.runs import NO_RUN, RunId


class QueueEntry(Struct, frozen=True):
    """An attempt for the workers. `body` is handed out unchanged; `timeout_ms` runs from then on.

    With a `worker` the commit itself hands it out, to that worker, and it is never queued. `lease_ms` > 0: the worker
    renews the attempt; if its timeout is longer than the lease, its LOST timer is set to the lease.
    """

    action_name: str
    action_id: RunId
    attempt: int
    timeout_ms: int
    body: bytes
    worker: str | None = None
    lease_ms: int = 0


class Receipt(Struct, frozen=True):
    """What `give_back` needs of an attempt that was handed out. `head` is opaque; `due_ms` is when it times out."""

    partition: int
    head: bytes
    due_ms: int = 0
    flow_id: str = ""
    action_id: RunId = NO_RUN
    attempt: int = 0


class HandOut(Struct, frozen=True):
    """The worker (by the name it gives itself) to which an attempt was last handed out, and how long ago."""

    worker: str
    age_ms: int


class Claimed(Struct, frozen=True):
    """The attempts of a claim, with a receipt for each body.

    `emptied`: those of the visited partitions in which no entry of the action is left.
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

        It stops with the attempt that brings the bodies to CLAIM_BYTES_MAX in all.

        Each one gets its timeout timer and a HANDED_OUT history entry. An entry whose attempt is no longer the running
        one is dropped; one of a paused flow is set aside until the flow is resumed. `lease_ms` is as in QueueEntry.
        """
        ...

    async def give_back(self, claimed: Claimed) -> int:
        """Put attempts that did not reach their worker back to the front of their queues, and drop their timeouts.

        Attempts whose timeout is no longer set (they have ended) or is due (they are about to end) are skipped. The
        others get a GIVEN_BACK history entry; returns how many.
        """
        ...

    async def last_hand_out(self, partition: int, flow_id: str, action_id: RunId, attempt: int) -> HandOut | None:
        """The last worker that got an attempt, by the history; None if it has no such entry."""
        ...
