"""A flow as its log: facts in lines of JSON, and the state that is folded from them.

A line is ``[<ms>, <record version>, [<fact>, ...], "<tag>"]``. A fact is an array that begins with its letter, mostly
that of today's history. A fact says what it does to the state without the workflow's definition:

====================================  ==============================================================================
``["S", workflow, version, input]``    the flow began
``["Q", run, attempt, worker, ms]``    an attempt is with the workers; with a worker: handed out by this commit, for ms
``["C", run, attempt, worker, out]``   it is finished; without the worker if that was told, without ``out`` if ``{}``
``["D"]``, ``["X", ...]``, ``["A"]``   the flow is completed, has failed, was cancelled
``["P"]``, ``["U"]``                   paused, resumed
``["H", ...]``, ``["B", ...]``         handed out by a claim, given back: nothing changes
``["=", {field: value}, [field]]``     the spike's stand-in for the facts that are not told apart yet
====================================  ==============================================================================
"""

from __future__ import annotations

import base64
import random
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

import attrs
import msgspec

from orchy.flow.execution import State
from orchy.store.flows import Commit

RECORD_VERSION = 1
TAG_CHARS = 8
#: What a block's line ends with: the length of the log that it and the blocks before it stand for.
OFFSET_DIGITS = 12

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_STATES = {"D": State.COMPLETED, "X": State.FAILED, "A": State.CANCELLED}


class Line(msgspec.Struct, array_like=True):
    """One line of a log."""

    time_ms: int
    version: int
    facts: list[Any]
    tag: str


class Block(msgspec.Struct, array_like=True):
    """What a part of a log comes to: what has finished in it, and all else as it was at its end."""

    meta: list[Any]
    input: Any
    running: dict[int, int]
    workers: dict[int, str]
    finished: dict[int, msgspec.Raw]
    other: dict[str, str]
    created_ms: int
    incarnation: str
    tag: str
    offset: str


_decode_lines = msgspec.json.Decoder(Line).decode_lines
_decode_result = msgspec.json.Decoder(tuple[int, Any]).decode
_decode_blocks = msgspec.json.Decoder(Block).decode_lines


class UnknownFact(Exception):
    """A record of a newer version."""


def new_tag(source: random.Random) -> str:
    """48 random bits in letters that JSON leaves as they are."""
    return base64.urlsafe_b64encode(source.getrandbits(48).to_bytes(6, "big")).decode()


@attrs.define
class Folded:
    """The state that facts lead to. `other` holds fields that no fact stands for.

    What has finished is read from a block only when it is asked for: `result` does so.
    """

    workflow: str = ""
    version: int = 0
    state: str = ""
    error: str | None = None
    input: Any = None
    paused: bool = False
    running: dict[int, int] = attrs.field(factory=dict)
    workers: dict[int, str] = attrs.field(factory=dict)
    finished: dict[int, tuple[int, Any] | msgspec.Raw] = attrs.field(factory=dict)
    other: dict[str, str] = attrs.field(factory=dict)
    created_ms: int = 0
    incarnation: str = ""
    tag: str = ""

    def apply(self, facts: Iterable[Any]) -> None:
        """Take facts into account. Raises UnknownFact."""
        for fact in facts:
            letter = fact[0]
            if letter == "C":
                run_id = fact[1]
                self.running.pop(run_id, None)
                self.workers.pop(run_id, None)
                self.finished[run_id] = (fact[2], fact[4] if len(fact) > 4 else {})
                if self.other:
                    self.other.pop(f"r:{run_id}", None)
            elif letter == "Q":
                self.running[fact[1]] = fact[2]
                if len(fact) > 3:
                    self.workers[fact[1]] = fact[3]
            elif letter == "S":
                self.workflow, self.version, self.input, self.state = fact[1], fact[2], fact[3], State.RUNNING
            elif letter in _STATES:
                self.state = _STATES[letter]
            elif letter == "P":
                self.paused, self.state = True, State.PAUSED
            elif letter == "U":
                self.paused, self.state = False, State.RUNNING
            elif letter == "=":
                for name, value in fact[1].items():
                    self._set(name, value)
                for name in fact[2]:
                    self.remove(name)
            elif letter not in _NO_CHANGE:
                raise UnknownFact(letter)

    def result(self, run_id: int) -> tuple[int, Any]:
        """The attempt with which an action finished, and its output."""
        found = self.finished[run_id]
        if isinstance(found, msgspec.Raw):
            found = self.finished[run_id] = _decode_result(found)
        return found

    def _set(self, name: str, value: str) -> None:
        if name == "m":
            self.workflow, self.version, self.state, self.error = _decode(value)
        else:
            self.remove(name)
            self.other[name] = value

    def remove(self, name: str) -> None:
        """Take away a field, whatever fact it came from."""
        kind, _, number = name.partition(":")
        if kind == "r":
            self.running.pop(int(number), None)
        elif kind == "o":
            self.finished.pop(int(number), None)
        self.other.pop(name, None)

    def field(self, name: str) -> bytes | None:
        """A field as today's layout has it."""
        kind, _, number = name.partition(":")
        if name == "m":
            return _encode([self.workflow, self.version, self.state, self.error])
        if name in self.other:
            return self.other[name].encode()
        if name == "i":
            return _encode(self.input)
        if name == "p":
            return b"1" if self.paused else None
        if kind == "r" and int(number) in self.running:
            return b"%d:q:" % self.running[int(number)]
        if kind == "o" and int(number) in self.finished:
            attempt, output = self.result(int(number))
            return b"%d:%b" % (attempt, _encode(output))
        return None

    def fields(self) -> dict[str, bytes]:
        """All fields as today's layout has them."""
        names = ["m", "i", *self.other, *(f"r:{run}" for run in self.running), *(f"o:{run}" for run in self.finished)]
        if self.paused:
            names.append("p")
        return {name: value for name in names if (value := self.field(name)) is not None}

    def block(self, since: Folded | None) -> bytes:
        """A line of the block key without its end: what has finished since the block before."""
        known = len(since.finished) if since else 0
        finished = {
            run_id: done if isinstance(done, msgspec.Raw) else msgspec.Raw(_encode(done))
            for run_id, done in islice(self.finished.items(), known, None)
        }
        meta = [self.workflow, self.version, self.state, self.error, self.paused]
        one = Block(
            meta,
            self.input,
            self.running,
            self.workers,
            finished,
            self.other,
            self.created_ms,
            self.incarnation,
            self.tag,
            "",
        )
        return _encode(one)[: -len('"]')]


#: Letters of facts that tell something and change nothing. Of these the history has more: `M`, `E` and others.
_NO_CHANGE = frozenset("HBFTWRLEKMNZG")


def facts_of(commit: Commit, folded: Folded) -> list[Any]:
    """What a commit tells, as facts; `folded` is taken along."""
    direct = {entry.action_id: entry for entry in commit.enqueue if entry.worker is not None}
    facts: list[Any] = []
    for text in commit.history:
        fact = _decode(text)
        if fact[0] == "S":
            workflow, version, _, _ = _decode(commit.fields["m"])
            fact = ["S", workflow, version, _decode(commit.fields["i"])]
        elif fact[0] == "C":
            output = _decode(commit.fields[f"o:{fact[1]}"].partition(b":")[2])
            worker = fact[3] if len(fact) > 3 and fact[3] != folded.workers.get(fact[1]) else ""
            fact = [*fact[:3], worker, output] if output != {} else [*fact[:3], *([worker] if worker else [])]
        elif fact[0] == "Q" and fact[1] in direct:
            entry = direct[fact[1]]
            fact = [*fact[:3], entry.worker, entry.timeout_ms]
        facts.append(fact)
    folded.apply(facts)
    written = {name: value.decode() for name, value in commit.fields.items() if folded.field(name) != value}
    removed = [name for name in commit.removed_fields if folded.field(name) is not None]
    if written or removed:
        rest = ["=", written, removed]
        folded.apply([rest])
        facts.append(rest)
    return facts


def encode_facts(facts: Sequence[Any]) -> str:
    """As they stand between the brackets of a line."""
    return _encode(facts).decode()[1:-1]


def fold(log: bytes, blocks: bytes = b"") -> Folded:
    """The state that a log leads to; with blocks, `log` is what comes after them. Raises UnknownFact."""
    folded = Folded()
    parts = _decode_blocks(blocks) if blocks else []
    for block in parts:
        folded.finished.update(block.finished)
    if parts:
        last = parts[-1]
        folded.workflow, folded.version, folded.state, folded.error, folded.paused = last.meta
        folded.input, folded.running, folded.workers, folded.other = last.input, last.running, last.workers, last.other
        folded.created_ms, folded.incarnation, folded.tag = last.created_ms, last.incarnation, last.tag
    lines = _decode_lines(log)
    for line in lines:
        if line.version > RECORD_VERSION:
            raise UnknownFact(f"version {line.version}")
        folded.apply(line.facts)
    if lines:
        folded.created_ms = folded.created_ms or lines[0].time_ms
        folded.incarnation = folded.incarnation or lines[0].tag
        folded.tag = lines[-1].tag
    return folded
