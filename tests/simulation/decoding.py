"""Decoders of the stored format and of workers' messages that share no code with the product.

If the product's encoder and decoder were wrong in the same way, they would agree with each other and nobody would
notice. So a change of the format has to be made here too, by hand.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

# The letters of a running action's phase.
QUEUED, RETRY, DELAY, WAIT, DEFERRED, HELD = "q", "r", "d", "w", "e", "h"
#: The letter of the timer that an action in a phase may have.
PHASE_TIMERS = {QUEUED: "t", RETRY: "r", DELAY: "d", WAIT: "w", DEFERRED: "e"}
TIMEOUT = "t"
#: The timer beside it: the attempt's worker has been silent for the length of its lease.
LOST = "l"

OVER = frozenset({"COMPLETED", "FAILED", "CANCELLED"})

#: The letters of history records.
KINDS = {
    "S": "STARTED",
    "Q": "SCHEDULED",
    "H": "HANDED_OUT",
    "B": "GIVEN_BACK",
    "C": "COMPLETED",
    "F": "FAILED",
    "T": "TIMED_OUT",
    "W": "WORKER_LOST",
    "R": "RETRY",
    "L": "LATE",
    "E": "EVENT",
    "K": "EVENT_KEPT",
    "M": "MISSING",
    "N": "POSTPONED",
    "P": "PAUSED",
    "U": "RESUMED",
    "Z": "QUARANTINED",
    "G": "RELEASED",
    "D": "FLOW_COMPLETED",
    "X": "FLOW_FAILED",
    "A": "FLOW_CANCELLED",
}


@attrs.frozen
class Running:
    """A field ``r:<id>``."""

    attempt: int
    phase: str
    event: str


@attrs.frozen
class Done:
    """A field ``o:<id>``."""

    attempt: int
    output: Any


@attrs.frozen
class StoredFlow:
    """A flow read from its fields; `kept` are the events that no wait has taken yet: name, data, id."""

    workflow: str
    version: int
    state: str
    error: str | None
    input: Any
    paused: bool
    running: dict[int, Running]
    finished: dict[int, Done]
    kept: list[tuple[str, Any, str]]

    @property
    def over(self) -> bool:
        """Whether the flow has ended."""
        return self.state in OVER


def read_flow(fields: Mapping[str, bytes]) -> StoredFlow:
    """The flow in these fields."""
    workflow, version, state, error = json.loads(fields["m"])
    running: dict[int, Running] = {}
    finished: dict[int, Done] = {}
    for name, value in fields.items():
        if name.startswith("r:"):
            attempt, phase, event = value.decode().split(":", 2)
            running[int(name[2:])] = Running(int(attempt), phase, event)
        elif name.startswith("o:"):
            number, output = value.split(b":", 1)
            finished[int(name[2:])] = Done(int(number), json.loads(output))
    return StoredFlow(
        workflow,
        version,
        state,
        error,
        json.loads(fields["i"]),
        "p" in fields,
        running,
        finished,
        _kept_events(fields),
    )


def _kept_events(fields: Mapping[str, bytes]) -> list[tuple[str, Any, str]]:
    """Kept events in the order of arrival, from a field ``k:<n>`` for each (name, id, data).

    Older flows have all of them in ``e``, with the ids of recent events, which only the engine needs.
    """
    numbers = sorted(int(name[2:]) for name in fields if name.startswith("k:"))
    newer = [json.loads(fields[f"k:{number}"]) for number in numbers]
    older = json.loads(fields["e"])[0] if "e" in fields else []
    return [(name, data, id) for name, id, data in newer] + [(name, data, id) for name, data, id in older]


def read_record(entry: bytes) -> tuple[str, int, int, str, Any]:
    """Kind, action, attempt, worker and detail of a history record; trailing defaults are omitted in it."""
    parts = json.loads(entry)
    kind, action_id, attempt, worker, detail = [*parts, *[None, 0, 0, "", None][len(parts) :]]
    return KINDS[kind], action_id, attempt, worker, detail


# The message `Action` of the worker API (Protocol Buffers Encoding).


@attrs.frozen
class Attempt:
    """One attempt, as a worker gets it."""

    workflow: str
    flow_id: str
    action_id: int
    name: str
    attempt: int
    timeout_seconds: int
    parameters: dict[str, Any]

    @property
    def key(self) -> tuple[str, int, int]:
        """Its identity: flow, action, attempt."""
        return self.flow_id, self.action_id, self.attempt


def read_attempt(body: bytes) -> Attempt:
    """An encoded `Action`."""
    values: dict[int, Any] = {}
    parameters: dict[str, Any] = {}
    for number, value in _fields(body):
        if number == 3:
            entry = dict(_fields(value))
            parameters[entry.get(1, b"").decode()] = _value(entry.get(2, b""))
        else:
            values[number] = value
    return Attempt(
        values[1].decode(),
        values[2].decode(),
        values.get(4, 0),
        values[5].decode(),
        values[6],
        values.get(8, 0),
        parameters,
    )


def read_attempts(message: bytes) -> list[Attempt]:
    """The attempts in an `Actions` or a `ServerMessage`, in both field 1."""
    return [read_attempt(value) for number, value in _fields(message) if number == 1]


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        match tag & 7:
            case 0:
                value, at = _varint(message, at)
                yield tag >> 3, value
            case 1:
                yield tag >> 3, struct.unpack_from("<d", message, at)[0]
                at += 8
            case 2:
                length, at = _varint(message, at)
                yield tag >> 3, message[at : at + length]
                at += length
            case other:
                raise ValueError(f"wire type {other} is not in these messages")


def _varint(message: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = message[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return number, at


def _value(message: bytes) -> Any:
    """A `google.protobuf.Value`."""
    for number, value in _fields(message):
        match number:
            case 2:
                return value
            case 3:
                return value.decode()
            case 4:
                return bool(value)
            case 5:
                entries = [dict(_fields(entry)) for _, entry in _fields(value)]
                return {entry.get(1, b"").decode(): _value(entry.get(2, b"")) for entry in entries}
            case 6:
                return [_value(item) for _, item in _fields(value)]
    return None
