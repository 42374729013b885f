"""What a worker holds, and which stream's server renews the lease of each: kept for as long as the worker runs, over
all streams that come and go, so that it can always say whether it holds an attempt.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import attrs
import trio

from orchy.worker.action import Attempt


@attrs.define(eq=False)
class HeldAttempts:
    """The attempts that came, until their results are with a server. A home is a stream; None: it is no more."""

    _homes: dict[Attempt, Any] = attrs.field(factory=dict)
    _began_at: float = attrs.field(factory=trio.current_time)

    def came(self, attempt: Attempt, home: object) -> None:
        """An attempt was handed out on a stream."""
        self._homes[attempt] = home

    def ended(self, attempt: Attempt) -> None:
        """Its result is with a server, or nobody's."""
        self._homes.pop(attempt, None)

    def lose(self, home: object) -> None:
        """A stream is no more: somebody else is to hear of what came on it."""
        for attempt, one in self._homes.items():
            if one is home:
                self._homes[attempt] = None

    def rehome(self, home: object) -> list[Attempt]:
        """What no stream's server renews; from now on it is this one's."""
        homeless = [attempt for attempt, one in self._homes.items() if one is None]
        for attempt in homeless:
            self._homes[attempt] = home
        return homeless

    def split(self, asked: Iterable[Attempt], home: object) -> tuple[Sequence[Attempt], Sequence[Attempt]]:
        """Of what a server asks for: what is held, which is that stream's from now on, and what is not."""
        held: list[Attempt] = []
        missing: list[Attempt] = []
        for attempt in asked:
            if attempt in self._homes:
                self._homes[attempt] = home
                held.append(attempt)
            else:
                missing.append(attempt)
        return held, missing

    @property
    def up_ms(self) -> int:
        """For how long this worker has been running."""
        return int((trio.current_time() - self._began_at) * 1000)
