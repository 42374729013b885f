"""What a commit hands out itself, to workers that wait on this node: places are kept before it, and told after it.

Nobody gets the attempts of a commit whose answer was lost; if it was carried out, they come back by their timeouts, as
those of a claim do.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from orchy.engine.ports import HandOff, Reservation
from orchy.store.flows import Commit, Committed


def reserve_workers(hand_off: HandOff, commit: Commit) -> tuple[Commit, Sequence[Reservation]]:
    """The commit with a worker for each attempt that somebody waits for; those that wait, in the order of these."""
    kept = [hand_off.reserve(entry.action_name) for entry in commit.enqueue]
    if not any(kept):
        return commit, ()
    enqueue = [
        replace(entry, worker=reservation.worker, lease_ms=reservation.lease_ms) if reservation else entry
        for entry, reservation in zip(commit.enqueue, kept, strict=True)
    ]
    return replace(commit, enqueue=enqueue), [reservation for reservation in kept if reservation]


def settle_reservations(kept: Sequence[Reservation], commit: Commit, outcome: object) -> None:
    """Those who wait get what is theirs, or their places back."""
    if not isinstance(outcome, Committed):
        for reservation in kept:
            reservation.release()
        return
    bodies = [entry.body for entry in commit.enqueue if entry.worker is not None]
    for reservation, body, receipt in zip(kept, bodies, outcome.receipts, strict=True):
        reservation.take(body, receipt)
