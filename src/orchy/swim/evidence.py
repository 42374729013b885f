"""Death by evidence: a process is gone, and its host says so. No suspicion has to run out for such a death.

A host answers for a process that has ended: "port unreachable" to a datagram, a reset to a connection. A host that is
frozen, gone or cut off says nothing, and is left to probes and suspicions.

    refused once, by UDP                  -> a case: others are told, it is pinged again each 0.25 s
    another member says that it was       -> the same, without believing it
    refused over 0.5 s by UDP, then, asked afresh, by TCP
                                          -> this member is a witness, and says so
    a witness, and another one has said that it is one too
                                          -> dead; with fewer than three members one witness suffices
    any answer in between                 -> there is no case: an ack, a stream that opens, a newer incarnation

* Only refusals at the member's own last address count, port included.
* A packet that comes from there, or a ping in the member's name, may have been under way when it died: what was seen
  before it does not count any more, but the case stays open.
* Nobody is believed: what others say makes this member look for itself. Who hears of a death by evidence believes the
  death as any other one, and looks at the evidence afterwards (`Witnessed`).
* A death is of the incarnation that the case is about: one that came since is not touched.
* TCP is asked last, and after the UDP refusals: what this process saw late, because it was slow itself, is not the
  last word.
"""

from __future__ import annotations

import attrs

from orchy.swim.codec import encode
from orchy.swim.core import NEVER, Core
from orchy.swim.messages import Address, Closed, Dead, Ping, Record, State
from orchy.swim.notifications import Witnessed
from orchy.swim.parameters import REFUSAL_CASES_MAX
from orchy.swim.rumours import Rumours

_NO_STREAM = 0


@attrs.define
class Case:
    """What is known against one incarnation of a member at one address."""

    member: Record
    ends: float
    next_at: float
    seq: int
    #: Since when it has been refused without an answer in between; None: it has not.
    refused_since: float | None = None
    stream: int = _NO_STREAM
    sure: bool = False
    witnesses: set[str] = attrs.field(factory=set)

    def doubt(self) -> None:
        """Something came from it: begin again."""
        self.refused_since = None
        self.stream = _NO_STREAM
        self.sure = False
        self.witnesses.clear()


class Evidence:
    """The cases that one member looks into."""

    def __init__(self, core: Core, rumours: Rumours) -> None:
        self._core = core
        self._rumours = rumours
        self._cases: dict[str, Case] = {}

    @property
    def deadline(self) -> float:
        """When something is to be done."""
        return min(case.next_at for case in self._cases.values()) if self._cases else NEVER

    def against(self, name: str) -> bool:
        """Whether this member has been refused by it, and had no answer since."""
        case = self._cases.get(name)
        return case is not None and case.refused_since is not None

    # What comes in.

    def refused(self, address: Address, now: float) -> None:
        """A host says that nobody listens there."""
        case = next((case for case in self._cases.values() if case.member.address == address), None)
        if case is None:
            member = next((one for one in self._core.members if one.address == address and one.state.live), None)
            case = None if member is None else self._open(member, now)
            if case is None:
                return
        if case.refused_since is None:
            case.refused_since = now
            case.next_at = now + self._core.parameters.refusal_probe_seconds
            self._tell(case)
        elif now - case.refused_since >= self._core.parameters.refusal_seconds:
            self._ask_over_a_stream(case)

    def told(self, heard: Closed, now: float) -> None:
        """Another member was refused."""
        core = self._core
        member, source = core.members.get(heard.name), core.members.get(heard.source)
        if member is None or member.incarnation != heard.incarnation or core.name in (heard.name, heard.source):
            return
        if source is None or not source.state.live or heard.source == heard.name:
            core.counts["evidence of strangers"] += 1
            return
        case = self._cases.get(heard.name)
        if case is None or case.member.incarnation != heard.incarnation:
            case = self._open(member, now) if member.state.live else None
            if case is None:
                return
            self._ping(case)
        if heard.sure:
            case.witnesses.add(heard.source)
            self._decide(case, now)

    def heard_from(self, address: Address) -> None:
        """A packet came from there. It may have been sent before the process ended."""
        for case in self._cases.values():
            if case.member.address == address:
                case.doubt()

    def asked_by(self, name: str) -> None:
        """A ping in a member's name came, from wherever."""
        case = self._cases.get(name)
        if case is not None:
            case.doubt()

    def acked(self, seq: int) -> bool:
        """An ack came. Whether it was for a ping of a case: there is none any more."""
        name = next((name for name, case in self._cases.items() if case.seq == seq), None)
        if name is None:
            return False
        self._drop(name)
        return True

    def stream_ended(self, stream: int, refused: bool, now: float) -> bool:
        """A stream was answered, was refused, or came to nothing else. Whether it was one of a case."""
        case = next((case for case in self._cases.values() if case.stream == stream), None)
        if case is None:
            return False
        if refused:
            case.sure = True
            self._tell(case)
            self._decide(case, now)
        else:
            self._drop(case.member.name)
        return True

    def tick(self, now: float) -> None:
        """Look again at those whose time has come."""
        for name, case in list(self._cases.items()):
            if case.next_at > now:
                continue
            known = self._core.members.get(name)
            if case.ends <= now or known is None or not _about(case.member, known):
                self._drop(name)
                continue
            case.next_at = now + self._core.parameters.refusal_probe_seconds
            self._ping(case)
            if case.refused_since is not None:
                self._tell(case)

    def stop(self) -> None:
        """Look into nothing any more."""
        self._cases.clear()

    # What is done.

    def _open(self, member: Record, now: float) -> Case | None:
        core = self._core
        if member.name == core.name or self._rumours.leaving:
            return None
        if len(self._cases) >= REFUSAL_CASES_MAX:
            core.counts["evidence refused"] += 1
            return None
        parameters = core.parameters
        next_at = now + parameters.refusal_probe_seconds
        case = Case(member, now + parameters.refusal_case_seconds, next_at, core.next_seq())
        self._cases[member.name] = case
        return case

    def _drop(self, name: str) -> None:
        del self._cases[name]

    def _ping(self, case: Case) -> None:
        member = case.member
        self._core.send(member.address, encode(Ping(case.seq, member.name, self._core.name)))

    def _tell(self, case: Case) -> None:
        core, member = self._core, case.member
        message = encode(Closed(member.name, member.incarnation, core.name, case.sure))
        for other in core.members.sample(core.parameters.refusal_members, lambda record: record.name != member.name):
            core.send(other.address, message)

    def _ask_over_a_stream(self, case: Case) -> None:
        if case.stream == _NO_STREAM:
            member = case.member
            case.stream = self._core.connect(member.address, Ping(case.seq, member.name, self._core.name))

    def _decide(self, case: Case, now: float) -> None:
        core, member = self._core, case.member
        known = core.members.get(member.name)
        if not case.sure or known is None or not _about(member, known):
            return
        others = core.live - known.state.live - 1
        if others and not case.witnesses:
            return
        self._drop(member.name)
        core.counts["dead by evidence"] += 1
        if known.state.live:
            self._rumours.dead(Dead(member.name, member.incarnation, core.name, refused=True), now, witnessed=True)
        else:
            core.outputs.append(Witnessed(known))


def _about(member: Record, known: Record) -> bool:
    """Whether what is believed now is still of that incarnation, at that address."""
    same = (known.incarnation, known.address) == (member.incarnation, member.address)
    return same and known.state is not State.LEFT
