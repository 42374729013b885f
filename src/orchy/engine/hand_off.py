"""Direct hand-off: a commit hands attempts to workers that wait on this node, reserved before it and settled after it.

If the answer to the commit is lost, nobody gets its attempts; if it was carried out, they come back by their timeouts,
as those of a claim do.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from orchy.engine.ports import HandOff, Reservation
from orchy.store.flows import Commit, Committed


def reserve_workers(hand_off: HandOff, commit: Commit) -> tuple[Commit, Sequence[Reservation]]:
    """The commit with a worker for each attempt that one waits for, and these reservations in the order of attempts."""
    reserved = [hand_off.reserve(entry.action_name) for entry in commit.enqueue]
    if not any(reserved):
        return commit, ()
    enqueue = [
        replace(entry, worker=reservation.worker, lease_ms=reservation.lease_ms) if reservation else entry
        for entry, reservation in zip(commit.enqueue, reserved, strict=True)
    ]
    return replace(commit, enqueue=enqueue), [reservation for reservation in reserved if reservation]


def settle_reservations(reservations: Sequence[Reservation], commit: Commit, outcome: object) -> None:
    """Deliver the attempts that were committed, or release all reservations."""
    if not isinstance(outcome, Committed):
        for reservation in reservations:
            reservation.release()
        return
    bodies = [entry.body for entry in commit.enqueue if entry.worker is not None]
    for reservation, body, receipt in zip(reservations, bodies, outcome.receipts, strict=True):
        reservation.take(body, receipt)
