"""Handles rumours about members (alive, suspect, dead): what to believe and pass on (SWIM, sections 4.1, 4.2).

    heard                 of this member itself                of another one
    alive   (name, i)     refute, if it is its own past        believe what is newer, of those vouched for
    suspect (name, i)     refute, unless it is old             suspect it, or count one more accuser
    dead    (name, i)     refute, unless it is old             believe it, unless it is old

A suspicion that is not refuted in time becomes a death. Only the member itself raises its incarnation. Gossip can miss
a member, so there are two safeguards beyond the papers: the sender of outdated news is sent the newer, and before a
suspicion ends the suspect is pinged once more, by each member for itself.
"""

from __future__ import annotations

import heapq

import attrs

from orchy.swim.codec import encode
from orchy.swim.core import NEVER, Core
from orchy.swim.messages import Dead, Ping, Record, State, Suspect
from orchy.swim.notifications import (
    AliveAgain,
    Changed,
    Died,
    Joined,
    Left,
    NameClaimed,
    NameTaken,
    Suspected,
    Unvouched,
)
from orchy.swim.parameters import INCARNATION_MAX
from orchy.swim.suspicion import Suspicion
from orchy.swim.unvouched import UnvouchedMembers


class Rumours:
    """Beliefs and suspicions of one member."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._suspicions: dict[str, Suspicion] = {}
        self._ends: list[tuple[float, str]] = []  # a heap of when to look at which
        self._rival: Record | None = None
        self._rival_stream = 0
        self._unvouched = UnvouchedMembers()
        #: Whether this member has joined a cluster, or had none to join. Until then it yields if its name is taken.
        self.settled = False
        #: Whether this member has begun to leave.
        self.leaving = False
        #: Whether this machine has stopped, because another live member has its name.
        self.refused = False

    @property
    def deadline(self) -> float:
        """When the next suspicion is to be looked at."""
        return self._ends[0][0] if self._ends else NEVER

    def alive(self, record: Record, now: float) -> None:
        """A member is said to live."""
        core = self._core
        if not core.plausible(record.name, record.incarnation, now):
            return
        if record.name == core.name:
            self._alive_myself(record, now)
            return
        if core.vouched is not None and not core.vouched(record):
            core.counts["strangers"] += 1
            if self._unvouched.put(record, now):
                core.outputs.append(Unvouched(record))
            return
        known = core.members.get(record.name)
        if known is None and core.members.full:
            core.counts["members refused"] += 1
            return
        if known is not None and not record.beats(known):
            core.counts["old news"] += 1
            return
        self._suspicions.pop(record.name, None)
        core.believe(record, now)
        if known is None or not known.state.live:
            core.outputs.append(Joined(record))
        else:
            if known.state is State.SUSPECT:
                core.outputs.append(AliveAgain(record))
            if (known.meta, known.address) != (record.meta, record.address):
                core.outputs.append(Changed(record))

    def vouch(self, now: float) -> None:
        """Ask again about those that nobody vouched for."""
        if self._core.vouched is not None:
            for record in self._unvouched.take(self._core.vouched, now):
                self.alive(record, now)

    def suspected(self, heard: Suspect, now: float) -> None:
        """A member is said not to answer."""
        core = self._core
        if not core.plausible(heard.name, heard.incarnation, now):
            return
        if heard.name == core.name:
            self._refute(heard.incarnation, now)
            return
        known = core.members.get(heard.name)
        if known is None or heard.incarnation < known.incarnation or not known.state.live:
            self._correct_sender(known)
            return
        suspicion = self._suspicions.get(heard.name)
        if suspicion is not None and heard.incarnation == known.incarnation:
            if core.parameters.lifeguard and self._is_member(heard.source) and suspicion.confirm(heard.source):
                core.broadcasts.put(heard.name, encode(heard))
                self._watch(heard.name, suspicion, now)
            return
        record = attrs.evolve(known, incarnation=heard.incarnation, state=State.SUSPECT)
        core.believe(record, now)
        core.broadcasts.put(heard.name, encode(heard))  # with the accuser, so that others can count accusers
        core.outputs.append(Suspected(record, heard.source))
        suspicion = self._suspicion(heard.source, now)
        self._suspicions[heard.name] = suspicion
        self._watch(heard.name, suspicion, now)

    def dead(self, heard: Dead, now: float, witnessed: bool = False) -> None:
        """A member is declared dead, or says itself that it leaves. `witnessed`: see `Died`."""
        core = self._core
        if not core.plausible(heard.name, heard.incarnation, now):
            return
        if heard.name == core.name:
            self._refute(heard.incarnation, now)
            return
        state = State.LEFT if heard.source == heard.name else State.DEAD
        known = core.members.get(heard.name)
        if known is None:
            # A leave may arrive before the member was heard of: it is kept, so that older news of it stay old.
            # Where members must be vouched for, nobody vouches for one that left.
            if state is State.LEFT and core.vouched is None and not core.members.full:
                core.members.put(Record(heard.name, heard.incarnation, state, ("", 0)), now)
            return
        record = attrs.evolve(known, incarnation=heard.incarnation, state=state)
        if not record.beats(known):
            self._correct_sender(known)
            return
        self._suspicions.pop(heard.name, None)
        core.believe(record, now)
        if heard.refused:
            core.broadcasts.put(heard.name, encode(heard))  # with the reason, so that others look for themselves
        if known.state.live:
            core.outputs.append(Left(record) if state is State.LEFT else Died(record, heard.source, witnessed))

    def table(self, records: tuple[Record, ...], now: float) -> bool:
        """Merge a peer's table. Whether one of the two tables calls a member dead that the other calls alive."""
        core = self._core
        contradicted = False
        for record in records:
            known = core.members.get(record.name)
            if known == record:
                continue
            if known is not None and State.LEFT not in (known.state, record.state):
                contradicted = contradicted or _contradict(known, record)
            match record.state:
                case State.ALIVE:
                    self.alive(record, now)
                case State.SUSPECT | State.DEAD:  # the peer may be wrong: let the member object
                    self.suspected(Suspect(record.name, record.incarnation, core.name), now)
                case State.LEFT:
                    self.dead(Dead(record.name, record.incarnation, record.name), now)
        return contradicted

    def tick(self, now: float) -> None:
        """Declare dead the members whose suspicion is over."""
        core = self._core
        while self._ends and self._ends[0][0] <= now:
            _, name = heapq.heappop(self._ends)
            suspicion = self._suspicions.get(name)
            if suspicion is None:
                continue
            known = core.members.get(name)
            assert known is not None, "a suspected member is known"
            if suspicion.asked_at is None and now >= self._last_call(suspicion):
                suspicion.asked_at = now
                if core.parameters.lifeguard:
                    self._ask(known, suspicion)
            if self._end(suspicion) > now:
                self._watch(name, suspicion, now)
                continue
            core.counts["declared dead"] += 1
            self.dead(Dead(name, known.incarnation, core.name), now)

    # This member itself.

    def _alive_myself(self, record: Record, now: float) -> None:
        me = self._core.me
        if self.leaving or self.refused or record.incarnation < me.incarnation or record == me:
            return
        if record.address == me.address:
            self._refute(record.incarnation, now)  # from before this node's restart
        elif not self._core.yields:
            self._core.counts["name claimed"] += 1
            self._core.outputs.append(NameClaimed(record.address))
            self.outbid(record.incarnation, now)
        elif self._rival is None:
            self.check_rival(record)

    def check_rival(self, record: Record) -> None:
        """Another member has this name: ask there, over a stream, whether it lives."""
        self._rival = record
        name = self._core.name
        self._rival_stream = self._core.connect(record.address, Ping(0, name, name))

    def rival_answered(self, stream: int, lives: bool, now: float) -> bool:
        """The stream to the rival ended; `lives`: it acked. Whether it was that stream."""
        rival, core = self._rival, self._core
        if rival is None or stream != self._rival_stream:
            return False
        self._rival = None
        if lives and not self.settled:
            self.refused = True
            core.outputs.append(NameTaken(rival.address))
        else:
            self.outbid(rival.incarnation, now)
        return True

    def outbid(self, incarnation: int, now: float) -> None:
        """Raise this member's incarnation above one of its past, or of another that had its name."""
        core = self._core
        if incarnation < core.me.incarnation:
            return
        if core.members.get(core.name) is None:  # not yet announced
            core.me = attrs.evolve(core.me, incarnation=_next_incarnation(incarnation))
        else:
            core.renew(_next_incarnation(incarnation), now)

    def _is_member(self, name: str) -> bool:
        """Whether it counts as an accuser of its own; where nobody must be vouched for, everyone does."""
        core = self._core
        return core.vouched is None or name == core.name or core.members.get(name) is not None

    @property
    def rival(self) -> bool:
        """Whether a member of the same name is being asked."""
        return self._rival is not None

    def _refute(self, incarnation: int, now: float) -> None:
        core = self._core
        if self.leaving or self.refused:
            return
        if incarnation < core.me.incarnation:
            self._correct_sender(core.me)
            return
        core.counts["refuted"] += 1
        core.awareness.add(1)
        self.outbid(incarnation, now)

    # Suspicions.

    def _suspicion(self, accuser: str, now: float) -> Suspicion:
        core, parameters = self._core, self._core.parameters
        least = parameters.suspicion_seconds(core.live)
        if not parameters.lifeguard:
            return Suspicion(now, accuser, least, least, 0)
        expected = parameters.suspicion_multiplier - 2
        if core.live - 2 < expected:  # too few members to confirm it
            expected = 0
        return Suspicion(now, accuser, least, parameters.suspicion_max_factor * least, expected)

    def _end(self, suspicion: Suspicion) -> float:
        """When it ends: never before the last ping could be answered, also when local health improves."""
        awareness, parameters = self._core.awareness, self._core.parameters
        end = suspicion.started + awareness.stretch(suspicion.seconds)
        if suspicion.asked_at is None or not parameters.lifeguard:
            return end
        return max(end, suspicion.asked_at + parameters.ping_timeout_seconds)

    def _last_call(self, suspicion: Suspicion) -> float:
        """When the suspect is pinged for the last time, so that its ack can still arrive."""
        return self._end(suspicion) - self._core.awareness.stretch(self._core.parameters.ping_timeout_seconds)

    def _ask(self, suspect: Record, suspicion: Suspicion) -> None:
        """Ping the suspect for the last time, and tell some others of the suspicion: one that knows better corrects it.

        They are sent the first accuser, so that none counts this member as another one.
        """
        core = self._core
        ping = Ping(core.next_seq(), suspect.name, core.name)
        core.send(suspect.address, encode(ping), encode(core.news(suspect)))
        news = encode(core.news(suspect, suspicion.accuser))
        for other in core.members.sample(core.parameters.indirect_members, lambda record: record.name != suspect.name):
            core.send(other.address, news)

    def _watch(self, name: str, suspicion: Suspicion, now: float) -> None:
        """Schedule the next look: at latest in a probe interval, as the local health, and so the end, can change."""
        due = self._last_call(suspicion) if suspicion.asked_at is None else self._end(suspicion)
        again = min(max(due, now), now + self._core.parameters.probe_interval_seconds)
        heapq.heappush(self._ends, (again, name))

    def _correct_sender(self, known: Record | None) -> None:
        """The sender spreads outdated news: send it the newer."""
        core = self._core
        core.counts["old news"] += 1
        if known is not None and known.state is State.ALIVE and core.sender is not None and core.parameters.lifeguard:
            core.send(core.sender, encode(core.news(known)))


def _contradict(one: Record, other: Record) -> bool:
    """Whether it is dead by one and alive by the other, so that only the member itself can say which is right."""
    live, dead = (one, other) if one.state.live else (other, one)
    return live.state.live and dead.state is State.DEAD and dead.incarnation >= live.incarnation


def _next_incarnation(incarnation: int) -> int:
    return min(incarnation + 1, INCARNATION_MAX)
