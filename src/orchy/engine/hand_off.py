"""What a commit hands out itself, to workers that wait on this node: places are kept before it, and told after it.

Nobody gets the attempts of a commit whose answer was lost; if it was carried out, they come back by their time-outs, as
those of a claim do.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from orchy.engine.ports import Taker, Takers
from orchy.store.ports import Commit, Committed


def keep_places(takers: Takers, commit: Commit) -> tuple[Commit, Sequence[Taker]]:
    """The commit with a worker for each attempt that somebody waits for; those that wait, in the order of these."""
    kept = [takers.reserve(entry.action_name) for entry in commit.enqueue]
    if not any(kept):
        return commit, ()
    enqueue = [
        replace(entry, worker=taker.worker, lease_ms=taker.lease_ms) if taker else entry
        for entry, taker in zip(commit.enqueue, kept, strict=True)
    ]
    return replace(commit, enqueue=enqueue), [taker for taker in kept if taker]


def tell(kept: Sequence[Taker], commit: Commit, outcome: object) -> None:
    """Those who wait get what is theirs, or their places back."""
    if not isinstance(outcome, Committed):
        for taker in kept:
            taker.release()
        return
    bodies = [entry.body for entry in commit.enqueue if entry.worker is not None]
    for taker, body, receipt in zip(kept, bodies, outcome.receipts, strict=True):
        taker.take(body, receipt)
