"""Which attempts a worker holds, and on which stream each is renewed.

Kept for as long as the worker runs, while streams come and go, so that it can always say whether it holds an attempt.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import attrs
import trio

from orchy.worker.action import Attempt


@attrs.define(eq=False)
class HeldAttempts:
    """Attempts from when they were received until their results are with a server. Each has its stream, or None."""

    _streams: dict[Attempt, Any] = attrs.field(factory=dict)
    _began_at: float = attrs.field(factory=trio.current_time)

    def add(self, attempt: Attempt, stream: object) -> None:
        """An attempt was handed out on a stream."""
        self._streams[attempt] = stream

    def remove(self, attempt: Attempt) -> None:
        """Its result is with a server, or no server will take it."""
        self._streams.pop(attempt, None)

    def orphan(self, stream: object) -> None:
        """A stream is gone: what came on it needs another one."""
        for attempt, one in self._streams.items():
            if one is stream:
                self._streams[attempt] = None

    def adopt(self, stream: object) -> list[Attempt]:
        """The attempts without a stream; from now on they are this one's."""
        orphans = [attempt for attempt, one in self._streams.items() if one is None]
        for attempt in orphans:
            self._streams[attempt] = stream
        return orphans

    def split(self, asked: Iterable[Attempt], stream: object) -> tuple[Sequence[Attempt], Sequence[Attempt]]:
        """Of the attempts that a server asks about: those held, which are its stream's from now on, and the others."""
        held: list[Attempt] = []
        missing: list[Attempt] = []
        for attempt in asked:
            if attempt in self._streams:
                self._streams[attempt] = stream
                held.append(attempt)
            else:
                missing.append(attempt)
        return held, missing

    @property
    def up_ms(self) -> int:
        """For how long this worker has been running."""
        return int((trio.current_time() - self._began_at) * 1000)
