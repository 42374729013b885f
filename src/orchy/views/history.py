"""The history of a flow as users see it: entries with the names of their actions."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from orchy.flow import codec
from orchy.flow.definition import JSON, Action
from orchy.flow.effects import RecordType
from orchy.store.flows import HistoryEntry


@attrs.frozen
class HistoryLine:
    """One entry of a flow's history. Action and attempt are None in entries about the whole flow."""

    time_ms: int
    type: RecordType
    action_id: int | None
    action_name: str | None
    attempt: int | None
    worker: str | None
    detail: JSON


def line_of(entry: HistoryEntry, actions: Mapping[int, Action]) -> HistoryLine:
    """Decode an entry. An action that is not in `actions` has no name."""
    letter, action_id, attempt, worker, detail = codec.decode_record(entry.entry)
    action = actions.get(action_id) if attempt else None  # without an attempt, the entry is about the whole flow
    return HistoryLine(
        time_ms=entry.time_ms,
        type=RecordType(letter),
        action_id=action_id if attempt else None,
        action_name=None if action is None else action.name,
        attempt=attempt or None,
        worker=worker or None,
        detail=detail,
    )
