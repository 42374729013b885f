"""Encodes a flow as the fields that the store keeps, and decodes it. Every part that can grow has one field for each
item, so that a commit writes only what a step changed and its cost does not grow with the flow.

============  ==========================================================================
``m``         workflow, version, state, error: JSON array, written by each commit
``i``         the input: JSON
``r:<id>``    a running action: ``<attempt>:<phase>:<event>``; `store.ports` reads the first two
``j:<id>``    a join with open edges: ``<taken>:<dead>``
``o:<id>``    a finished action: ``<attempt>:<output as JSON>``
``x:<id>``    the last attempt that a worker reported as failed
``l:<id>``    attempts whose results came too late, separated by commas
``k:<n>``     a kept event: name, id and data as a JSON array; the oldest has the lowest number
``d:<n>``     ids of recent events: JSON array of strings that begin with ``+`` (a wait took it at once) or ``-``
``e``         the old format: kept events and recent ids in one JSON array; still read, no longer written
``p``         present while the flow is paused
============  ==========================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import msgspec

from orchy.flow.definition import JSON
from orchy.flow.draft import LATE_PREFIX, OLD_EVENTS_FIELD, Changes, event_fields
from orchy.flow.effects import Record
from orchy.flow.execution import Finished, Flow, Join, KeptEvent, Phase, Running, State
from orchy.flow.limits import HISTORY_ENTRY_BYTES_MAX, shortened
from orchy.flow.recent import RecentEvents
from orchy.flow.runs import RunId, parse_run

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_decode_kept = msgspec.json.Decoder(tuple[str, str, msgspec.Raw]).decode
#: The length to which an oversized detail of a history entry is cut; shorter where characters take up to 6 bytes.
_CUT_DETAIL_CHARS = 3_500
_CUT_WORKER_CHARS = 64

#: The values of parts that a history entry leaves out.
_RECORD_DEFAULTS: list[Any] = [None, 0, 0, "", None]


@attrs.frozen
class Meta:
    """The part of a flow that a listing shows without loading the rest."""

    workflow: str
    workflow_version: int
    state: State
    error: str | None


def encode_start(flow: Flow) -> dict[str, bytes]:
    """All fields of a flow that is not in the store yet."""
    changes = Changes(frozenset(flow.running), frozenset(flow.joins), frozenset(flow.finished), frozenset(flow.failed))
    if flow.recent_events.chunks or flow.late:  # a flow that has just started has neither
        late = [f"{LATE_PREFIX}{run_id}" for run_id in flow.late]
        changes |= Changes(fields=frozenset([*event_fields(flow), *late]))
    fields, _ = encode_changes(flow, changes)
    fields["i"] = _encode(flow.input)
    return fields


def encode_changes(flow: Flow, changes: Changes) -> tuple[dict[str, bytes], list[str]]:
    """The fields that `changes` rewrites, and the names of those that it removes."""
    fields = {"m": _encode([flow.workflow, flow.workflow_version, flow.state, flow.error])}
    removed: list[str] = []
    for run_id in changes.running:
        running = flow.running.get(run_id)
        if running is None:
            removed.append(f"r:{run_id}")
        else:
            fields[f"r:{run_id}"] = f"{running.attempt}:{running.phase}:{running.event or ''}".encode()
    for action_id in changes.joins:
        join = flow.joins.get(action_id)
        if join is None:
            removed.append(f"j:{action_id}")
        else:
            fields[f"j:{action_id}"] = b"%d:%d" % (join.taken, join.dead)
    for run_id in changes.finished:
        done = flow.finished[run_id]
        fields[f"o:{run_id}"] = b"%d:%b" % (done.attempt, _encode(done.output))
    for run_id in changes.failed:
        fields[f"x:{run_id}"] = b"%d" % flow.failed[run_id]
    if changes.fields:
        for name in sorted(changes.fields):
            value = _encode_rare(flow, name)
            if value is None:
                removed.append(name)
            else:
                fields[name] = value
    if flow.state is State.PAUSED:
        fields["p"] = b"1"
    else:
        removed.append("p")
    return fields, removed


def _encode_rare(flow: Flow, name: str) -> bytes | None:
    """One of `Changes.fields`; None if it is to be removed."""
    kind, _, number = name.partition(":")
    if kind == "l":
        return ",".join(map(str, flow.late[parse_run(number)])).encode()
    if kind == "k":
        event = next((event for event in reversed(flow.kept_events) if event.number == int(number)), None)
        return None if event is None else b"[%b,%b,%b]" % (_encode(event.event), _encode(event.event_id), event.text)
    if name == OLD_EVENTS_FIELD:
        return None
    assert kind == "d", f"there is no field {name}"
    chunk = flow.recent_events.chunk(int(number))
    if chunk is None:
        return None
    return _encode([("+" if taken else "-") + event_id for event_id, taken in chunk.items()])


def decode_flow(flow_id: str, fields: Mapping[str, bytes]) -> Flow:
    """The flow that the fields hold. Fields that belong to the store itself are ignored."""
    meta = decode_meta(fields["m"])
    running: dict[RunId, Running] = {}
    joins: dict[int, Join] = {}
    finished: dict[RunId, Finished] = {}
    failed: dict[RunId, int] = {}
    late: dict[RunId, tuple[int, ...]] = {}
    kept: list[KeptEvent] = []
    chunks: dict[int, dict[str, bool]] = {}
    for name, value in fields.items():
        kind, colon, number = name.partition(":")
        if not colon:
            continue
        item = int(number)
        if kind == "r":
            attempt, phase, event = value.decode().split(":", 2)
            running[RunId(item)] = Running(int(attempt), Phase(phase), event or None)
        elif kind == "j":
            taken, dead = value.split(b":")
            joins[item] = Join(int(taken), int(dead))
        elif kind == "o":
            first, _, output = value.partition(b":")
            finished[RunId(item)] = Finished(int(first), _decode(output))
        elif kind == "x":
            failed[RunId(item)] = int(value)
        elif kind == "l":
            late[RunId(item)] = tuple(map(int, value.split(b",")))
        elif kind == "k":
            event_name, event_id, text = _decode_kept(value)
            kept.append(KeptEvent(item, event_name, event_id, bytes(text)))
        elif kind == "d":
            chunks[item] = {text[1:]: text[0] == "+" for text in _decode(value)}
    phases: dict[Phase, int] = {}
    for one in running.values():
        phases[one.phase] = phases.get(one.phase, 0) + 1
    kept.sort(key=lambda event: event.number)
    recent = RecentEvents(min(chunks, default=0), tuple(chunks[number] for number in sorted(chunks)))
    if OLD_EVENTS_FIELD in fields:
        recent = _decode_old_events(fields[OLD_EVENTS_FIELD], kept, recent)
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
        kept_events=tuple(kept),
        recent_events=recent,
        late=late,
        old_events=OLD_EVENTS_FIELD in fields,
        error=meta.error,
    )


def _decode_old_events(field: bytes, kept: list[KeptEvent], recent: RecentEvents) -> RecentEvents:
    """Adds the events of the field `e`; they are newer than those that have fields of their own, if there are any."""
    old_kept, old_recent = _decode(field)
    waiting = set()
    for name, data, event_id in old_kept:
        waiting.add(event_id)
        kept.append(KeptEvent(kept[-1].number + 1 if kept else 1, name, event_id, _encode(data)))
    for event_id in old_recent:
        recent, _ = recent.adding(event_id, event_id not in waiting)
    return recent


def decode_meta(field: bytes) -> Meta:
    """Decode the `m` field."""
    workflow, version, state, error = _decode(field)
    return Meta(workflow, version, State(state), error)


def encode_record(record: Record) -> bytes:
    """A history entry without its time: a JSON array, without trailing parts that have their default values."""
    entry: list[Any] = [record.type, record.run_id, record.attempt, record.worker, record.detail]
    while len(entry) > 1 and entry[-1] == _RECORD_DEFAULTS[len(entry) - 1]:
        entry.pop()
    text = _encode(entry)
    return text if len(text) <= HISTORY_ENTRY_BYTES_MAX else _encode_cut(record)


def _encode_cut(record: Record) -> bytes:
    """An oversized entry, with its detail cut to fit."""
    detail = record.detail if isinstance(record.detail, str) else _encode(record.detail).decode()
    worker = shortened(record.worker, _CUT_WORKER_CHARS)
    parts = [record.type, record.run_id, record.attempt, worker]
    text = _encode([*parts, shortened(detail, _CUT_DETAIL_CHARS)])
    if len(text) > HISTORY_ENTRY_BYTES_MAX:
        text = _encode([*parts, shortened(detail, _CUT_DETAIL_CHARS // 6)])
    return text


def decode_record(entry: bytes) -> tuple[str, RunId, int, str, JSON]:
    """Type letter, run, attempt, worker and detail of a history entry."""
    parts = _decode(entry)
    letter, run_id, attempt, worker, detail = parts + _RECORD_DEFAULTS[len(parts) :]
    return letter, run_id, attempt, worker, detail
