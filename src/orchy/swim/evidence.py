"""Death by evidence: a process is gone, and its host says so. Such a death needs no suspicion to expire.

A host answers for a process that has ended: "port unreachable" to a datagram, a reset to a connection. A host that is
frozen, down or cut off answers nothing, and is left to probes and suspicions.

    refused once, by UDP                  -> a case: others are told, it is pinged again each 0.25 s
    another member says that it was       -> the same, without believing it
    refused over 0.5 s by UDP, then, asked afresh, by TCP
                                          -> this member is a witness, and says so
    a witness, and another one has said that it is one too
                                          -> dead; with fewer than three members one witness suffices
    any answer in between                 -> there is no case: an ack, a stream that opens, a newer incarnation

* Only refusals at the member's own last address count, port included.
* A packet from there, or a ping in the member's name, may have been under way when it died: earlier refusals no longer
  count, but the case stays open.
* Nobody is believed: what others say makes this member look for itself. A member that hears of a death by evidence
  believes it like any other death, and looks at the evidence afterwards (`Witnessed`).
* A death is of the incarnation that the case is about: a later one is not affected.
* TCP is tried last, after the UDP refusals: refusals that this process saw late, because it was slow itself, do not
  decide alone.
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
    """The evidence about one incarnation of a member at one address."""

    member: Record
    ends: float
    next_at: float
    seq: int
    #: Since when it has been refused without an answer in between; None: it has not.
    refused_since: float | None = None
    stream: int = _NO_STREAM
    sure: bool = False
    witnesses: set[str] = attrs.field(factory=set)

    def start_over(self) -> None:
        """Something came from it: earlier refusals no longer count."""
        self.refused_since = None
        self.stream = _NO_STREAM
        self.sure = False
        self.witnesses.clear()


class Evidence:
    """The cases that this member investigates."""

    def __init__(self, core: Core, rumours: Rumours) -> None:
        self._core = core
        self._rumours = rumours
        self._cases: dict[str, Case] = {}

    @property
    def deadline(self) -> float:
        """When something is to be done."""
        return min(case.next_at for case in self._cases.values()) if self._cases else NEVER

    def is_refused_by(self, name: str) -> bool:
        """Whether the member's host refuses this one's packets, without an answer since."""
        case = self._cases.get(name)
        return case is not None and case.refused_since is not None

    # What comes in.

    def refused(self, address: Address, now: float) -> None:
        """A host says that nobody listens at an address."""
        case = next((case for case in self._cases.values() if case.member.address == address), None)
        if case is None:
            member = next((one for one in self._core.members if one.address == address and one.state.live), None)
            case = None if member is None else self._open(member, now)
            if case is None:
                return
        if case.refused_since is None:
            case.refused_since = now
            case.next_at = now + self._core.parameters.refusal_probe_seconds
            self._report(case)
        elif now - case.refused_since >= self._core.parameters.refusal_seconds:
            self._ask_over_a_stream(case)

    def reported(self, heard: Closed, now: float) -> None:
        """Another member says that it was refused."""
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
        """A packet came from an address. It may have been sent before the process ended."""
        for case in self._cases.values():
            if case.member.address == address:
                case.start_over()

    def pinged_by(self, name: str) -> None:
        """A ping in a member's name came, from any address."""
        case = self._cases.get(name)
        if case is not None:
            case.start_over()

    def acked(self, seq: int) -> bool:
        """An ack came. If it answers a ping of a case, the case is dropped; whether it did."""
        name = next((name for name, case in self._cases.items() if case.seq == seq), None)
        if name is None:
            return False
        self._drop(name)
        return True

    def stream_ended(self, stream: int, refused: bool, now: float) -> bool:
        """A stream was answered, refused, or failed otherwise. Whether it was a case's."""
        case = next((case for case in self._cases.values() if case.stream == stream), None)
        if case is None:
            return False
        if refused:
            case.sure = True
            self._report(case)
            self._decide(case, now)
        else:
            self._drop(case.member.name)
        return True

    def tick(self, now: float) -> None:
        """Continue the cases that are due."""
        for name, case in list(self._cases.items()):
            if case.next_at > now:
                continue
            known = self._core.members.get(name)
            if case.ends <= now or known is None or not _is_current(case.member, known):
                self._drop(name)
                continue
            case.next_at = now + self._core.parameters.refusal_probe_seconds
            self._ping(case)
            if case.refused_since is not None:
                self._report(case)

    def stop(self) -> None:
        """Drop all cases."""
        self._cases.clear()

    # Investigating.

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

    def _report(self, case: Case) -> None:
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
        if not case.sure or known is None or not _is_current(member, known):
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


def _is_current(member: Record, known: Record) -> bool:
    """Whether the present belief is of the same incarnation, at the same address."""
    same = (known.incarnation, known.address) == (member.incarnation, member.address)
    return same and known.state is not State.LEFT
