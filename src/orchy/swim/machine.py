"""The gossip machine: `handle(now, input) -> outputs`, `deadline`. It does no IO, reads no clock, rolls no die.

    Datagram  -> open the envelope -> decode -> prober (acks), relays (pings for others), rumours (beliefs)
    streams   -> sync: whole tables, joining; prober: a ping over a stream
    Unreachable -> evidence: a host says that a process is gone
    Tick      -> the parts whose deadlines are over
    and after each: gossip, if updates are queued and its interval is over

The parts: `core` (who I am, the table, the outbox), `rumours` (beliefs, suspicions), `probe`, `evidence`, `sync`. SWIM
(Das, Gupta, Motivala 2002) with the extensions of Lifeguard (Dadgar, Phillips, Currey 2018).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import assert_never

import attrs

from orchy.swim.codec import Malformed, decode, encode
from orchy.swim.core import NEVER, Core, Introducer, check_meta
from orchy.swim.envelope import Envelope, Unopened
from orchy.swim.evidence import Evidence
from orchy.swim.members import Snapshot
from orchy.swim.messages import (
    Ack,
    Address,
    Alive,
    Answer,
    Closed,
    Datagram,
    Dead,
    IndirectPing,
    Input,
    Join,
    Leave,
    Message,
    Nack,
    Output,
    Ping,
    Reconnect,
    Record,
    Request,
    Respond,
    Same,
    SendUser,
    SetMeta,
    State,
    StreamFailed,
    Suspect,
    Sync,
    Table,
    Tick,
    Unreachable,
    User,
    Vouch,
)
from orchy.swim.notifications import UserMessage
from orchy.swim.outsiders import answer_outsider
from orchy.swim.parameters import PROFILES, Parameters
from orchy.swim.probe import Prober, Relays
from orchy.swim.rumours import Rumours
from orchy.swim.sync import Synchroniser

#: How many members a leaving one tells directly; the others hear it by gossip.
GOODBYES_MAX = 64


class Swim:
    """One member of a cluster."""

    def __init__(
        self,
        *,
        name: str,
        address: Address,
        now: float,
        envelope: Envelope,
        meta: bytes = b"",
        parameters: Parameters = PROFILES["default"],
        choose: random.Random | None = None,
        base: Snapshot | None = None,
        epoch: float | None = None,
        vouched: Callable[[Record], bool] | None = None,
        yields: bool = True,
        introducer: Introducer | None = None,
    ) -> None:
        """`address` is the one that others use. With `base`, a table with this member, it is a member at once.

        `epoch` is the time of day when `now` was 0, in seconds: incarnations then begin at the time of day, and one
        that is far ahead of it is not believed. Only members that `vouched` accepts enter the table (None: all);
        `Vouch` says that its answers may have changed. `yields`: a joiner whose name a live member has gives way;
        if not, the name is this member's. `introducer`: how to answer processes that are no members.

        Raises ValueError if the name or the metadata are too long.
        """
        choose = choose or random.Random()
        self._core = core = Core(
            name=name,
            address=address,
            meta=meta,
            parameters=parameters,
            envelope=envelope,
            choose=choose,
            base=base or Snapshot(),
            now=now,
            epoch=epoch,
            vouched=vouched,
            yields=yields,
            introducer=introducer,
        )
        self._rumours = Rumours(core)
        first_probe_at = now + choose.random() * parameters.probe_interval_seconds
        self._prober = Prober(core, self._rumours, first_probe_at)
        self._relays = Relays(core)
        self._evidence = Evidence(core, self._rumours)
        self._sync = Synchroniser(core, self._rumours, now)
        self._gossiped_at = -NEVER
        #: When it needs a Tick at the latest.
        self.deadline = now

    # State.

    @property
    def parameters(self) -> Parameters:
        """The protocol's parameters."""
        return self._core.parameters

    @property
    def me(self) -> Record:
        """This member's own record."""
        return self._core.me

    @property
    def members(self) -> Iterator[Record]:
        """All known members, this one included, also the dead and those that left."""
        return iter(self._core.members)

    @property
    def live(self) -> int:
        """How many live members there are, this one included."""
        return self._core.live

    @property
    def joined(self) -> bool:
        """Whether it has joined the cluster of its seeds."""
        return self._rumours.settled

    @property
    def health_score(self) -> int:
        """0 is healthy; at most 7."""
        return self._core.awareness.score

    @property
    def counts(self) -> Counter[str]:
        """Dropped messages by reason, and actions."""
        return self._core.counts

    def get(self, name: str) -> Record | None:
        """What is known of a member."""
        return self._core.members.get(name)

    def round_trip_seconds(self, name: str) -> float | None:
        """Smoothed time from a ping to its ack; None if never measured."""
        return self._prober.round_trip_seconds(name)

    @property
    def leave_announced(self) -> bool:
        """After `Leave`: whether enough members were told that the process may end."""
        core = self._core
        return self._rumours.leaving and (not core.members.live or not core.broadcasts.waiting(core.name))

    # Inputs.

    def handle(self, now: float, input: Input) -> list[Output]:
        """Handle one input. Never raises for input from the network."""
        core = self._core
        if self._rumours.refused:
            return []
        match input:
            case Datagram(source, data):
                self._datagram(source, data, now)
            case Tick():
                self._tick(now)
            case Request():
                self._request(input, now)
            case Answer(stream, data):
                self._answer(stream, data, now)
            case StreamFailed():
                self._stream_failed(input, now)
            case Unreachable(address):
                self._evidence.refused(address, now)
            case Join(seeds):
                self._join(seeds, now)
            case Reconnect(addresses):
                self._sync.offer(addresses, now)
            case Leave():
                self._leave(now)
            case SetMeta(meta):
                self._set_meta(meta, now)
            case Vouch():
                self._rumours.vouch(now)
            case SendUser(name, payload):
                member = core.members.get(name)
                # A packet to a refusing host would only use up the few refusals a second that it sends.
                if member is not None and member.state.live and not self._evidence.is_refused_by(name):
                    core.send(member.address, encode(User(core.name, payload)))
            case _:
                assert_never(input)
        self.deadline = self._deadline(now)
        outputs, core.outputs = core.outputs, []
        return outputs

    def _deadline(self, now: float) -> float:
        """When the next thing is to be done; gossip that is due now is sent."""
        if self._rumours.refused:
            return NEVER
        core = self._core
        deadline = min(self._prober.deadline, self._sync.deadline, self._rumours.deadline, self._relays.deadline)
        deadline = min(deadline, self._evidence.deadline)
        if not core.broadcasts:
            return deadline
        gossip_at = self._gossiped_at + core.parameters.gossip_interval_seconds
        return min(deadline, gossip_at if gossip_at > now else self._gossip(now))

    # Packets.

    def _datagram(self, source: Address, data: bytes, now: float) -> None:
        counts = self._core.counts
        if len(data) > self._core.parameters.packet_bytes:
            counts["dropped: too large"] += 1
            return
        self._core.sender = source
        messages = self._opened(data)
        if messages:
            self._evidence.heard_from(source)
        for message in messages:
            match message:
                case Ping(seq, target, asker):
                    self._pinged(source, seq, target, asker)
                case Ack(seq):
                    if not self._relays.acked(seq) and not self._evidence.acked(seq):
                        self._prober.acked(seq, now)
                case Nack(seq):
                    self._prober.nacked(seq)
                case IndirectPing():
                    self._relays.ask(source, message, now)
                case Alive(record):
                    self._rumours.alive(record, now)
                case Suspect():
                    self._rumours.suspected(message, now)
                case Dead():
                    if message.refused:
                        self._evidence.reported(Closed(message.name, message.incarnation, message.source, True), now)
                    self._rumours.dead(message, now)
                case Closed():
                    self._evidence.reported(message, now)
                case User(teller, payload):
                    self._core.outputs.append(UserMessage(teller, payload))
                case _:
                    counts["dropped: not for a packet"] += 1
        self._core.sender = None

    def _opened(self, data: bytes) -> list[Message]:
        counts = self._core.counts
        try:
            return decode(self._core.envelope.open(data))
        except Unopened as error:
            counts[f"dropped: {error.reason}"] += 1
        except Malformed:
            counts["dropped: malformed"] += 1
        return []

    def _pinged(self, source: Address, seq: int, target: str, asker: str) -> None:
        core = self._core
        if target != core.name:  # meant for an earlier node at this address
            core.counts["dropped: wrong node"] += 1
            return
        self._evidence.pinged_by(asker)
        known = core.members.get(asker)
        if known is not None and known.state is State.DEAD:  # it is not: tell it, so that it objects
            core.send(source, encode(Ack(seq)), encode(core.news(known)))
        else:
            core.send(source, encode(Ack(seq)))

    # Streams.

    def _request(self, request: Request, now: float) -> None:
        core, stream = self._core, request.stream
        try:
            messages = decode(core.envelope.open(request.data))
        except Unopened as error:
            answer_outsider(core, request, error.reason)
            return
        except Malformed:
            core.counts["dropped: malformed"] += 1
            return
        for message in messages:
            match message:
                case Ping(seq, target, _) if target == core.name:
                    core.outputs.append(Respond(stream, core.frame(Ack(seq))))
                case Sync():
                    self._sync.sync_received(stream, message)
                case Table():
                    self._sync.table_received(stream, message, now)
                case _:
                    core.counts["dropped: not for a stream"] += 1

    def _answer(self, stream: int, data: bytes, now: float) -> None:
        messages = self._opened(data)
        acked = any(isinstance(message, Ack) for message in messages)
        if self._rumours.rival_answered(stream, acked, now):
            return
        if self._evidence.stream_ended(stream, False, now):
            return
        if acked and self._prober.stream_answered(stream):
            return
        if any(isinstance(message, (Table, Same)) for message in messages):
            self._sync.answered(stream, messages, now)
        else:
            self._sync.refused(stream, data)

    def _stream_failed(self, failed: StreamFailed, now: float) -> None:
        stream = failed.stream
        if self._evidence.stream_ended(stream, failed.refused, now) or self._prober.stream_failed(stream):
            return
        if not self._rumours.rival_answered(stream, False, now):
            self._sync.failed(stream, failed.hung_up)

    # Orders of the application.

    def _join(self, seeds: tuple[Address, ...], now: float) -> None:
        core = self._core
        others = tuple(seed for seed in seeds if seed != core.me.address)
        self._sync.join(others, now)
        # Without seeds, or as one of them, it forms a cluster, and goes on asking the others.
        if len(others) < max(1, len(seeds)) and core.members.get(core.name) is None:
            core.believe(core.me, now)

    def _leave(self, now: float) -> None:
        core = self._core
        if self._rumours.leaving:
            return
        self._rumours.leaving = True
        self._prober.stop()
        self._evidence.stop()
        core.believe(attrs.evolve(core.me, state=State.LEFT), now)
        goodbye = encode(core.news(core.me))
        for member in core.members.sample(GOODBYES_MAX, lambda record: True):
            core.send(member.address, goodbye)

    def _set_meta(self, meta: bytes, now: float) -> None:
        core = self._core
        if meta == core.me.meta or self._rumours.leaving:
            return
        if core.members.get(core.name) is None:  # not yet announced
            core.me = attrs.evolve(core.me, meta=check_meta(meta))
        else:
            core.renew(core.me.incarnation + 1, now, meta)

    # Time.

    def _tick(self, now: float) -> None:
        late = now - self.deadline
        if late > self._core.parameters.lag_seconds:
            self._core.counts["late ticks"] += 1
            self._core.awareness.add(1)
        self._relays.tick(now)
        self._evidence.tick(now)
        self._rumours.tick(now)
        if self._sync.deadline <= now:
            self._sync.tick(now)
        if self._prober.deadline <= now:
            self._prober.tick(now)

    def _gossip(self, now: float) -> float:
        """Send updates, at once if the last ones were an interval ago: in a quiet cluster news travel fast.

        Returns when to do it again.
        """
        core, parameters = self._core, self._core.parameters
        self._gossiped_at = now
        dead = core.members.gone(State.DEAD, now - parameters.gossip_to_dead_seconds)
        targets = core.members.sample(parameters.gossip_members, lambda record: True, dead)
        if not targets:  # nobody to tell
            core.broadcasts.take(parameters.packet_bytes, parameters.retransmits(core.live))
        for target in targets:
            if core.broadcasts:
                core.send(target.address)
        return now + parameters.gossip_interval_seconds if core.broadcasts else NEVER
