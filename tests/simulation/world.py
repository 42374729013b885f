"""What all parts of one run share: profile, transcript, counts, and a nursery for delayed calls."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from tests.simulation.determinism import stream
from tests.simulation.profile import Profile

#: After the last fault, until earlier calls have ended and late messages have arrived.
QUIET_SECONDS = 30.0


class World:
    """One run. `healed` is set when the nemesis is done; nothing breaks after that."""

    def __init__(self, seed: int, profile: Profile, nursery: trio.Nursery) -> None:
        self.seed = seed
        self.profile = profile
        self.healed = trio.Event()
        self._healed_at = float("inf")
        self.transcript: list[str] = []
        self.counts: Counter[str] = Counter()
        self._nursery = nursery

    @property
    def sound(self) -> bool:
        """Whether nothing breaks any more, or ever did."""
        return self.profile.sound or self.healed.is_set()

    def heal(self) -> None:
        """End all faults."""
        self.healed.set()
        self._healed_at = trio.current_time()
        self.note("the world is healed")

    @property
    def quiet(self) -> bool:
        """Whether the last fault is so long ago that every call must be answered."""
        since = 0.0 if self.profile.sound else self._healed_at
        return trio.current_time() >= since + QUIET_SECONDS

    def stream(self, purpose: str) -> random.Random:
        """Random numbers for one purpose."""
        return stream(self.seed, purpose)

    def note(self, line: str) -> None:
        """Add a line to the transcript."""
        self.transcript.append(f"{trio.current_time():9.4f} {line}")

    def count(self, what: str) -> None:
        """Count something, for the figures at the end."""
        self.counts[what] += 1

    def later(self, seconds: float, operation: Callable[..., Awaitable[object]], *args: Any) -> None:
        """Run an operation after a while, whatever becomes of the caller."""

        async def wait_and_do() -> None:
            await trio.sleep(seconds)
            await operation(*args)

        # A child of the world's nursery, so that it does not stop with the node that asked for it.
        self._nursery.start_soon(wait_and_do)

    def digest(self) -> str:
        """A hash of the transcript, which two runs of one seed have in common."""
        return hashlib.sha256("\n".join(self.transcript).encode()).hexdigest()
