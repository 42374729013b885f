"""A member's process in the simulator, and the events that it reports."""

from __future__ import annotations

from collections import deque

import attrs

from orchy.swim.machine import Swim
from orchy.swim.messages import Input, Output
from orchy.swim.notifications import Event


@attrs.define(eq=False)
class Process:
    """A member's process. `down`: it ended; `silent`: so did its host. Until `stalled_until` it does nothing; until
    `starved_until` its timers run, but it neither sends nor receives.
    """

    name: str
    machine: Swim
    scheduled: float = float("inf")
    stalled_until: float = 0.0
    starved_until: float = 0.0
    down: bool = False
    silent: bool = False
    inbox: deque[Input] = attrs.field(factory=deque)
    outbox: deque[Output] = attrs.field(factory=deque)

    @property
    def host(self) -> str:
        """Its address without the port."""
        return self.machine.me.address[0]


@attrs.frozen
class Happened:
    """An event of one member."""

    at: float
    observer: str
    event: Event
