"""What is said about members: alive, suspect, dead; what is believed of it, and passed on (SWIM, sections 4.1, 4.2).

    heard                 of this member itself                of another one
    alive   (name, i)     refute, if it is another's past      believe what is newer, of those vouched for
    suspect (name, i)     refute, unless it is old             suspect it, or count one more accuser
    dead    (name, i)     refute, unless it is old             believe it, unless it is old

A suspicion that nobody refuted in time becomes a death. Only the member itself raises its incarnation. Gossip reaches
all but with bad luck one, so there are two safeguards beyond the papers: whoever spreads old news is told the new ones,
and before a suspicion ends the suspect is asked once more, by each member for itself.
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
        #: This member has joined a cluster, or had none to join. Until then it yields if its name is taken.
        self.settled = False
        #: This member has said goodbye.
        self.leaving = False
        #: Another live member has this one's name: this one has stopped.
        self.refused = False

    @property
    def deadline(self) -> float:
        """When the next suspicion may have lasted long enough."""
        return self._ends[0][0] if self._ends else NEVER

    def alive(self, record: Record, now: float) -> None:
        """A member lives, or is said to."""
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
        """Some that were strangers may be so no longer."""
        if self._core.vouched is not None:
            for record in self._unvouched.take(self._core.vouched, now):
                self.alive(record, now)

    def suspected(self, heard: Suspect, now: float) -> None:
        """Somebody had no answer from it."""
        core = self._core
        if not core.plausible(heard.name, heard.incarnation, now):
            return
        if heard.name == core.name:
            self._refute(heard.incarnation, now)
            return
        known = core.members.get(heard.name)
        if known is None or heard.incarnation < known.incarnation or not known.state.live:
            self._old(known)
            return
        suspicion = self._suspicions.get(heard.name)
        if suspicion is not None and heard.incarnation == known.incarnation:
            if core.parameters.lifeguard and self._is_member(heard.source) and suspicion.confirm(heard.source):
                core.broadcasts.put(heard.name, encode(heard))
                self._watch(heard.name, suspicion, now)
            return
        record = attrs.evolve(known, incarnation=heard.incarnation, state=State.SUSPECT)
        core.believe(record, now)
        core.broadcasts.put(heard.name, encode(heard))  # with who said it, so that others can count accusers
        core.outputs.append(Suspected(record, heard.source))
        suspicion = self._suspicion(heard.source, now)
        self._suspicions[heard.name] = suspicion
        self._watch(heard.name, suspicion, now)

    def dead(self, heard: Dead, now: float, witnessed: bool = False) -> None:
        """Somebody is sure of it, or it is the member itself that leaves. `witnessed`: see `Died`."""
        core = self._core
        if not core.plausible(heard.name, heard.incarnation, now):
            return
        if heard.name == core.name:
            self._refute(heard.incarnation, now)
            return
        state = State.LEFT if heard.source == heard.name else State.DEAD
        known = core.members.get(heard.name)
        if known is None:
            # A goodbye may be heard before the member was: kept, so that the older news of it stay old.
            # Where strangers need somebody to vouch for them, nobody does so for one that left.
            if state is State.LEFT and core.vouched is None and not core.members.full:
                core.members.put(Record(heard.name, heard.incarnation, state, ("", 0)), now)
            return
        record = attrs.evolve(known, incarnation=heard.incarnation, state=state)
        if not record.beats(known):
            self._old(known)
            return
        self._suspicions.pop(heard.name, None)
        core.believe(record, now)
        if heard.refused:
            core.broadcasts.put(heard.name, encode(heard))  # with the reason, so that others look for themselves
        if known.state.live:
            core.outputs.append(Left(record) if state is State.LEFT else Died(record, heard.source, witnessed))

    def table(self, records: tuple[Record, ...], now: float) -> bool:
        """A peer's whole table. Whether one of the two tables calls dead whom the other one calls alive."""
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
                case State.SUSPECT | State.DEAD:  # it may be the peer that is wrong: let it object
                    self.suspected(Suspect(record.name, record.incarnation, core.name), now)
                case State.LEFT:
                    self.dead(Dead(record.name, record.incarnation, record.name), now)
        return contradicted

    def tick(self, now: float) -> None:
        """Declare dead whose time is over."""
        core = self._core
        while self._ends and self._ends[0][0] <= now:
            _, name = heapq.heappop(self._ends)
            suspicion = self._suspicions.get(name)
            if suspicion is None:
                continue
            known = core.members.get(name)
            assert known is not None, "who is suspected is known"
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
            self._refute(record.incarnation, now)  # this node's past, before its restart
        elif not self._core.yields:
            self._core.counts["name claimed"] += 1
            self._core.outputs.append(NameClaimed(record.address))
            self.outbid(record.incarnation, now)
        elif self._rival is None:
            self.check_rival(record)

    def check_rival(self, record: Record) -> None:
        """Somebody has this member's name: ask there, over a stream, whether it lives."""
        self._rival = record
        name = self._core.name
        self._rival_stream = self._core.connect(record.address, Ping(0, name, name))

    def rival_answered(self, stream: int, lives: bool, now: float) -> bool:
        """What came of that question. Whether it was one."""
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
        """Be newer than what is known of this member: its past, or one who had its name."""
        core = self._core
        if incarnation < core.me.incarnation:
            return
        if core.members.get(core.name) is None:  # not yet announced
            core.me = attrs.evolve(core.me, incarnation=_above(incarnation))
        else:
            core.renew(_above(incarnation), now)

    def _is_member(self, name: str) -> bool:
        """Whether its word counts as one of its own; where nobody vouches for any, everybody's does."""
        core = self._core
        return core.vouched is None or name == core.name or core.members.get(name) is not None

    @property
    def rival(self) -> bool:
        """Whether it is being asked if there is another one of this name."""
        return self._rival is not None

    def _refute(self, incarnation: int, now: float) -> None:
        core = self._core
        if self.leaving or self.refused:
            return
        if incarnation < core.me.incarnation:
            self._old(core.me)
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
        if core.live - 2 < expected:  # so few could not confirm it
            expected = 0
        return Suspicion(now, accuser, least, parameters.suspicion_max_factor * least, expected)

    def _end(self, suspicion: Suspicion) -> float:
        """Never before an answer to the last question had its time, also when better health makes all shorter."""
        awareness, parameters = self._core.awareness, self._core.parameters
        end = suspicion.started + awareness.stretch(suspicion.seconds)
        if suspicion.asked_at is None or not parameters.lifeguard:
            return end
        return max(end, suspicion.asked_at + parameters.ping_timeout_seconds)

    def _last_call(self, suspicion: Suspicion) -> float:
        """When the suspect is asked for the last time: its answer has time to come back."""
        return self._end(suspicion) - self._core.awareness.stretch(self._core.parameters.ping_timeout_seconds)

    def _ask(self, suspect: Record, suspicion: Suspicion) -> None:
        """The last question, to the suspect and to some others, in case it has no time just now: who knows better
        answers to old news. They are told who began it, so that nobody counts this member as one more accuser.
        """
        core = self._core
        ping = Ping(core.next_seq(), suspect.name, core.name)
        core.send(suspect.address, encode(ping), encode(core.news(suspect)))
        news = encode(core.news(suspect, suspicion.accuser))
        for other in core.members.sample(core.parameters.indirect_members, lambda record: record.name != suspect.name):
            core.send(other.address, news)

    def _watch(self, name: str, suspicion: Suspicion, now: float) -> None:
        """Look again when there may be something to do: the local health, and with it the end, can change before."""
        due = self._last_call(suspicion) if suspicion.asked_at is None else self._end(suspicion)
        again = min(max(due, now), now + self._core.parameters.probe_interval_seconds)
        heapq.heappush(self._ends, (again, name))

    def _old(self, known: Record | None) -> None:
        """Somebody spreads what is not so any more: tell it."""
        core = self._core
        core.counts["old news"] += 1
        if known is not None and known.state is State.ALIVE and core.sender is not None and core.parameters.lifeguard:
            core.send(core.sender, encode(core.news(known)))


def _contradict(one: Record, other: Record) -> bool:
    """Whether it is dead by one and alive by the other, and only itself can say who is right."""
    live, dead = (one, other) if one.state.live else (other, one)
    return live.state.live and dead.state is State.DEAD and dead.incarnation >= live.incarnation


def _above(incarnation: int) -> int:
    return min(incarnation + 1, INCARNATION_MAX)
