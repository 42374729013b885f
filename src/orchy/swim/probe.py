"""Failure detection: members are probed one at a time (SWIM, sections 3.1 and 4.3; Lifeguard, 4.1).

    ping -> (40 %) ping again -> (timeout) k others ping it for us, and a ping over a stream
         -> an ack at any time: it is alive         -> (end of the interval) it is suspected

An interval ends before the next one begins: probes never overlap. A bad score of local health stretches the timeouts.
Also here: pinging on behalf of others, with a nack while they still wait.
"""

from __future__ import annotations

import enum
from collections import deque

import attrs

from orchy.swim.codec import encode
from orchy.swim.core import NEVER, Core
from orchy.swim.messages import Ack, Address, IndirectPing, Nack, Ping, Record, State, Suspect
from orchy.swim.parameters import RELAYS_MAX
from orchy.swim.rumours import Rumours

#: How much a new round-trip time counts (RFC 6298, section 2).
_RTT_GAIN = 1 / 8


class Stage(enum.Enum):
    """The stage of a probe."""

    IDLE = "idle"
    PINGED = "pinged"
    PINGED_TWICE = "pinged twice"
    INDIRECT = "asked others"
    ANSWERED = "answered"


class Prober:
    """The probes of one member."""

    def __init__(self, core: Core, rumours: Rumours, first_probe_at: float) -> None:
        self._core = core
        self._rumours = rumours
        self.stage = Stage.IDLE
        #: When the next tick is due.
        self.deadline = first_probe_at
        self._seq = -1
        self._target: Record | None = None
        self._started = 0.0
        self._timeout = 0.0
        self._ends = first_probe_at
        self._asked = 0
        self._nacks = 0
        self._stream = 0
        self._round_trips: dict[str, float] = {}

    def round_trip_seconds(self, name: str) -> float | None:
        """Smoothed; None if never measured."""
        return self._round_trips.get(name)

    def tick(self, now: float) -> None:
        """The deadline has passed."""
        match self.stage:
            case Stage.IDLE | Stage.ANSWERED:
                self._start(now)
            case Stage.PINGED:
                self.stage = Stage.PINGED_TWICE
                self.deadline = self._started + self._timeout
                self._ping()
            case Stage.PINGED_TWICE:
                self._ask_others(now)
            case Stage.INDIRECT:
                self._fail(now)
                self._start(now)

    def acked(self, seq: int, now: float) -> None:
        """An ack came, from the target or through a relay."""
        if seq != self._seq or self.stage in (Stage.IDLE, Stage.ANSWERED):
            self._core.counts["late acks"] += 1
            return
        if self.stage is Stage.PINGED and self._target:  # after a second ping the ack could be of either
            self._measured(self._target.name, now - self._started)
        self._core.awareness.add(-1)
        self._over()

    def nacked(self, seq: int) -> None:
        """A relay is well, and has no ack."""
        if seq == self._seq and self.stage is Stage.INDIRECT:
            self._nacks += 1

    def stream_answered(self, stream: int) -> bool:
        """The target answered over a stream: it lives. Whether it was this probe's stream."""
        if stream != self._stream:
            return False
        self._stream = 0
        if self.stage is Stage.INDIRECT:
            self._core.counts["acks over a stream"] += 1
            self._over()
        return True

    def stream_failed(self, stream: int) -> bool:
        """A failed stream proves nothing. Whether it was this probe's stream."""
        return stream == self._stream

    def stop(self) -> None:
        """Stop probing."""
        self.stage = Stage.IDLE
        self.deadline = NEVER

    def _start(self, now: float) -> None:
        core = self._core
        interval = core.awareness.stretch(core.parameters.probe_interval_seconds)
        self._ends = self.deadline = now + interval
        self._target = core.members.next_target()
        if self._target is None:
            self.stage = Stage.IDLE
            return
        self.stage = Stage.PINGED
        self._seq = core.next_seq()
        self._started = now
        self._timeout = core.awareness.stretch(core.parameters.ping_timeout_seconds)
        self._stream = 0
        self.deadline = now + core.parameters.second_ping_fraction * self._timeout
        self._ping()

    def _ping(self) -> None:
        core, target = self._core, self._target
        assert target is not None
        ping = encode(Ping(self._seq, target.name, core.name))
        known = core.members.get(target.name)
        if known and known.state is State.SUSPECT and core.parameters.lifeguard:
            # The buddy system (Lifeguard, section 4.3): a suspected member learns of it from the next ping.
            core.send(target.address, ping, encode(Suspect(known.name, known.incarnation, core.name)))
        else:
            core.send(target.address, ping)

    def _ask_others(self, now: float) -> None:
        core, target = self._core, self._target
        assert target is not None
        self.stage = Stage.INDIRECT
        # The relays get their full time also when this process was late to ask them.
        self._ends = self.deadline = max(self._ends, now + core.parameters.ping_timeout_seconds)
        relays = core.members.sample(
            core.parameters.indirect_members,
            lambda record: record.state is State.ALIVE and record.name != target.name,
        )
        question = encode(IndirectPing(self._seq, target.name, target.address, core.name))
        for relay in relays:
            core.send(relay.address, question)
        self._asked, self._nacks = len(relays), 0
        self._stream = core.connect(target.address, Ping(self._seq, target.name, core.name))

    def _fail(self, now: float) -> None:
        core, target = self._core, self._target
        assert target is not None
        known = core.members.get(target.name)
        if known is None or not known.state.live:
            return
        core.counts["failed probes"] += 1
        # A member that gets no nacks either has reason to doubt its own health (Lifeguard, section 4.1).
        core.awareness.add(max(0, self._asked - self._nacks) if self._asked else 1)
        self._rumours.suspected(Suspect(known.name, known.incarnation, core.name), now)

    def _over(self) -> None:
        self.stage = Stage.ANSWERED
        self.deadline = self._ends

    def _measured(self, name: str, seconds: float) -> None:
        known = self._round_trips.pop(name, seconds)
        self._round_trips[name] = known + (seconds - known) * _RTT_GAIN
        if len(self._round_trips) > self._core.live:
            del self._round_trips[next(iter(self._round_trips))]  # measured the longest time ago


@attrs.define
class _Relayed:
    """A ping on behalf of another member."""

    asker: Address
    asker_seq: int
    seq: int
    nack_at: float


class Relays:
    """Pings on behalf of others. Each ends with an ack that is passed on, or with a nack."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._by_seq: dict[int, _Relayed] = {}  # in order of arrival
        self._waiting: deque[_Relayed] = deque()  # until their nacks, in order: all wait equally long

    @property
    def deadline(self) -> float:
        """When the next nack is due."""
        return self._waiting[0].nack_at if self._waiting else NEVER

    def ask(self, source: Address, question: IndirectPing, now: float) -> None:
        """Ping on behalf of `source`."""
        core = self._core
        self._forget(now)
        if len(self._by_seq) >= RELAYS_MAX:
            core.counts["relays refused"] += 1
            return
        wait = core.parameters.nack_fraction * core.parameters.ping_timeout_seconds
        relayed = _Relayed(source, question.seq, core.next_seq(), now + wait)
        self._by_seq[relayed.seq] = relayed
        self._waiting.append(relayed)
        core.send(question.address, encode(Ping(relayed.seq, question.target, core.name)))

    def acked(self, seq: int) -> bool:
        """Forward an ack, a late one as well; whether it was one for another member."""
        relayed = self._by_seq.pop(seq, None)
        if relayed is None:
            return False
        self._core.send(relayed.asker, encode(Ack(relayed.asker_seq)))
        return True

    def tick(self, now: float) -> None:
        """Send the nacks that are due."""
        while self._waiting and self._waiting[0].nack_at <= now:
            relayed = self._waiting.popleft()
            if relayed.seq in self._by_seq and self._core.parameters.lifeguard:
                self._core.send(relayed.asker, encode(Nack(relayed.asker_seq)))

    def _forget(self, now: float) -> None:
        """Drop pings whose askers no longer wait."""
        for seq, relayed in list(self._by_seq.items()):
            if relayed.nack_at + self._core.parameters.probe_interval_seconds >= now:
                break
            del self._by_seq[seq]
