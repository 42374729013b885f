"""One machine, with all its inputs and outputs as text.

    0.00 -> a: ping #1 a                  it sends a packet
    0.01 <- a: ack #1                     it gets one
    1.00 => a: ping #1 a                  it opens a stream with a frame
    1.20 <= a: ack #1                     the answer to its last stream
    1.20 x= a                             its last stream failed
    2.00 ** suspected a by me             it tells the node
    2.00 .. leave                         the node tells it; also `lag 0.7`: it gets no tick for so long

The machine is "me" in a cluster of me, a, b, ... that know each other, all of incarnation 1. It always takes the first
choice: it probes in the order of the alphabet, and asks the first ones. A packet that has news only is not shown,
unless it goes to the one whose name the test gives.
"""

from __future__ import annotations

import random
import re

import attrs

from orchy.swim.codec import decode, encode, join
from orchy.swim.envelope import Envelope
from orchy.swim.machine import Swim
from orchy.swim.members import snapshot
from orchy.swim.messages import (
    Ack,
    Alive,
    Answer,
    Connect,
    Datagram,
    Dead,
    IndirectPing,
    Leave,
    Nack,
    Ping,
    Record,
    Send,
    SetMeta,
    State,
    StreamFailed,
    Suspect,
    Tick,
)
from orchy.swim.parameters import PROFILES

LINE = re.compile(r"\s*(?P<at>[\d.]+) (?P<kind>->|<-|=>|<=|x=|\*\*|\.\.) (?P<rest>.*)")
NEWS = (Alive, Suspect, Dead)


class FirstChoice(random.Random):
    """Randomness that always takes the first choice."""

    def random(self) -> float:
        return 0.0


def address(name):
    return name, 1


def record(name, incarnation, state=State.ALIVE, meta=b""):
    return Record(name, incarnation, state, address(name), meta)


def show(message):
    """A message as text."""
    match message:
        case Ping(seq, target, _):
            return f"ping #{seq} {target}"
        case Ack(seq):
            return f"ack #{seq}"
        case Nack(seq):
            return f"nack #{seq}"
        case IndirectPing(seq, target, _, _):
            return f"ask #{seq} {target}"
        case Alive(Record(name, incarnation, _, _, meta)):
            return f"alive {name} {incarnation}" + (f" {meta.decode()}" if meta else "")
        case Suspect(name, incarnation, source):
            return f"suspect {name} {incarnation} by {source}"
        case Dead(name, incarnation, source):
            return f"dead {name} {incarnation} by {source}"
    raise AssertionError(message)


def read(text, source):
    """The message of a text, sent by `source`."""
    match text.split():
        case ["ping", seq, target]:
            return Ping(int(seq[1:]), target, source)
        case ["ack", seq]:
            return Ack(int(seq[1:]))
        case ["nack", seq]:
            return Nack(int(seq[1:]))
        case ["ask", seq, target]:
            return IndirectPing(int(seq[1:]), target, address(target), source)
        case ["alive", name, incarnation, *meta]:
            return Alive(record(name, int(incarnation), meta="".join(meta).encode()))
        case ["suspect", name, incarnation, "by", by]:
            return Suspect(name, int(incarnation), by)
        case ["dead", name, incarnation, "by", by]:
            return Dead(name, int(incarnation), by)
    raise AssertionError(text)


@attrs.define
class Transcript:
    """Plays the lines of input, and records everything."""

    machine: Swim
    envelope: Envelope
    watched: str | None
    now: float = 0.0
    not_before: float = 0.0
    stream: int = 0
    lines: list[str] = attrs.field(factory=list)

    def play(self, script, until):
        """The transcript after the inputs of the script: its lines `<-`, `<=`, `x=` and `..`."""
        for line in filter(None, map(str.strip, script.splitlines())):
            match = LINE.fullmatch(line)
            assert match, line
            if match["kind"] in ("->", "=>", "**"):
                continue
            self.pass_time(float(match["at"]))
            self.lines.append(line)
            self.take(match["kind"], match["rest"])
        self.pass_time(until)
        return self.lines

    def take(self, kind, rest):
        """Handle a line of input."""
        who, _, texts = rest.partition(": ")
        packet = self.envelope.seal(join(encode(read(text, who)) for text in texts.split(", ") if text))
        match kind, rest.split():
            case "..", ["leave"]:
                self.handle(Leave())
            case "..", ["meta", meta]:
                self.handle(SetMeta(meta.encode()))
            case "..", ["lag", seconds]:
                self.not_before = self.now + float(seconds)
            case "<-", _:
                self.handle(Datagram(address(who), packet))
            case "<=", _:
                self.handle(Answer(self.stream, packet))
            case "x=", _:
                self.handle(StreamFailed(self.stream))

    def pass_time(self, until):
        """Deliver ticks when they are due."""
        while max(self.machine.deadline, self.not_before) <= until:
            self.now = max(self.now, self.machine.deadline, self.not_before)
            self.handle(Tick())
        self.now = until

    def handle(self, item):
        """Handle an input, and record the outputs."""
        for output in self.machine.handle(self.now, item):
            match output:
                case Send((host, _), data):
                    messages = decode(self.envelope.open(data))
                    if host == self.watched or not all(isinstance(message, NEWS) for message in messages):
                        self.write("->", f"{host}: {', '.join(map(show, messages))}")
                case Connect(stream, (host, _), data):
                    messages = decode(self.envelope.open(data))
                    if all(isinstance(message, Ping) for message in messages):  # not the comparing of tables
                        self.stream = stream
                        self.write("=>", f"{host}: {', '.join(map(show, messages))}")
                case _:
                    member = output.member
                    by = getattr(output, "by", None) or getattr(output, "source", None)
                    kind = re.sub(r"(?<!^)(?=[A-Z])", " ", type(output).__name__).lower()
                    self.write("**", f"{kind} {member.name}" + (f" by {by}" if by else ""))

    def write(self, kind, text):
        self.lines.append(f"{self.now:.2f} {kind} {text}")


def transcript(script, until, others="ab", watched=None, **parameters):
    """Plays a script and checks that the transcript is the same. Returns the machine."""
    names = ["me", *others]
    envelope = Envelope("t")
    machine = Swim(
        name="me",
        address=address("me"),
        now=0.0,
        envelope=envelope,
        parameters=attrs.evolve(PROFILES["default"], sync_interval_seconds=1e6, **parameters),
        choose=FirstChoice(),
        base=snapshot([record(name, 1) for name in names]),
    )
    played = Transcript(machine, envelope, watched).play(script, until)
    expected = [line.strip() for line in script.splitlines() if line.strip()]
    assert played == expected, "\n".join(["the transcript was:", *played])
    return machine
