"""A flow as the fields that the store keeps, and back. Each part that can grow has a field for each of its items,
so that a commit writes what a step changed and its cost does not grow with the flow.

============  ==========================================================================
``m``         workflow, version, state, error: JSON array, written by each commit
``i``         the input: JSON
``e``         kept events and the ids of recent ones: JSON array, there when there was one
``r:<id>``    a running action: ``<attempt>:<phase>:<event>``; `store.base` reads the first two
``j:<id>``    a join that is not settled: ``<taken>:<dead>``
``o:<id>``    a finished action: ``<attempt>:<output as JSON>``
``x:<id>``    the last attempt that a worker said had failed
``p``         there while the flow is paused
============  ==========================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import msgspec

from orchy.flow.definition import JSON
from orchy.flow.draft import Changes
from orchy.flow.effects import Record
from orchy.flow.execution import Finished, Flow, Join, KeptEvent, Phase, Running, State

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode

#: What the parts of a history entry are when they are left out.
_NOTHING: list[Any] = [None, 0, 0, "", None]


@attrs.frozen
class Meta:
    """What a listing shows of a flow without loading it."""

    workflow: str
    workflow_version: int
    state: State
    error: str | None


def encode_start(flow: Flow) -> dict[str, bytes]:
    """All fields of a flow that the store does not know yet."""
    changes = Changes(
        frozenset(flow.running), frozenset(flow.joins), frozenset(flow.finished), frozenset(flow.failed), events=True
    )
    fields, _ = encode_changes(flow, changes)
    fields["i"] = _encode(flow.input)
    return fields


def encode_changes(flow: Flow, changes: Changes) -> tuple[dict[str, bytes], list[str]]:
    """The fields that `changes` rewrites, and the names of those that it removes."""
    fields = {"m": _encode([flow.workflow, flow.workflow_version, flow.state, flow.error])}
    removed: list[str] = []
    for action_id in changes.running:
        running = flow.running.get(action_id)
        if running is None:
            removed.append(f"r:{action_id}")
        else:
            fields[f"r:{action_id}"] = f"{running.attempt}:{running.phase}:{running.event or ''}".encode()
    for action_id in changes.joins:
        join = flow.joins.get(action_id)
        if join is None:
            removed.append(f"j:{action_id}")
        else:
            fields[f"j:{action_id}"] = b"%d:%d" % (join.taken, join.dead)
    for action_id in changes.finished:
        done = flow.finished[action_id]
        fields[f"o:{action_id}"] = b"%d:%b" % (done.attempt, _encode(done.output))
    for action_id in changes.failed:
        fields[f"x:{action_id}"] = b"%d" % flow.failed[action_id]
    if changes.events and (flow.kept_events or flow.recent_event_ids):
        kept = [[event.event, event.data, event.event_id] for event in flow.kept_events]
        fields["e"] = _encode([kept, flow.recent_event_ids])
    if flow.state is State.PAUSED:
        fields["p"] = b"1"
    else:
        removed.append("p")
    return fields, removed


def decode_flow(flow_id: str, fields: Mapping[str, bytes]) -> Flow:
    """The flow that the fields hold. Fields that belong to the store are passed over."""
    meta = decode_meta(fields["m"])
    running: dict[int, Running] = {}
    joins: dict[int, Join] = {}
    finished: dict[int, Finished] = {}
    failed: dict[int, int] = {}
    for name, value in fields.items():
        kind, colon, number = name.partition(":")
        if not colon:
            continue
        action_id = int(number)
        if kind == "r":
            attempt, phase, event = value.decode().split(":", 2)
            running[action_id] = Running(int(attempt), Phase(phase), event or None)
        elif kind == "j":
            taken, dead = value.split(b":")
            joins[action_id] = Join(int(taken), int(dead))
        elif kind == "o":
            first, _, output = value.partition(b":")
            finished[action_id] = Finished(int(first), _decode(output))
        elif kind == "x":
            failed[action_id] = int(value)
    phases: dict[Phase, int] = {}
    for item in running.values():
        phases[item.phase] = phases.get(item.phase, 0) + 1
    kept, recent = _decode(fields["e"]) if "e" in fields else ((), ())
    return Flow(
        id=flow_id,
        workflow=meta.workflow,
        workflow_version=meta.workflow_version,
        input=_decode(fields["i"]),
        state=meta.state,
        running=running,
        joins=joins,
        finished=finished,
        failed=failed,
        phases=phases,
        kept_events=tuple(KeptEvent(*parts) for parts in kept),
        recent_event_ids=tuple(recent),
        error=meta.error,
    )


def decode_meta(field: bytes) -> Meta:
    """What the `m` field holds."""
    workflow, version, state, error = _decode(field)
    return Meta(workflow, version, State(state), error)


def encode_record(record: Record) -> bytes:
    """A history entry without its time: a JSON array that ends where nothing more is to be said."""
    entry: list[Any] = [record.type, record.action_id, record.attempt, record.worker, record.detail]
    while len(entry) > 1 and entry[-1] == _NOTHING[len(entry) - 1]:
        entry.pop()
    return _encode(entry)


def decode_record(entry: bytes) -> tuple[str, int, int, str, JSON]:
    """Type letter, action id, attempt, worker and detail of a history entry."""
    parts = _decode(entry)
    letter, action_id, attempt, worker, detail = parts + _NOTHING[len(parts) :]
    return letter, action_id, attempt, worker, detail
