"""A flow's history, folded into the state that it implies. Pure, and written independently of the machine.

Two things can't be known from a history: an action that was reached during a pause has no line until the flow is
resumed, and a history that was capped has lost its beginning.
"""

from __future__ import annotations

from collections import Counter

import attrs

from orchy.flow import codec
from orchy.flow.effects import RecordType
from orchy.flow.execution import State
from orchy.flow.runs import RunId

ENDS = {
    RecordType.FLOW_COMPLETED: State.COMPLETED,
    RecordType.FLOW_FAILED: State.FAILED,
    RecordType.FLOW_CANCELLED: State.CANCELLED,
}
_ATTEMPT_ENDS = (RecordType.COMPLETED, RecordType.FAILED, RecordType.TIMED_OUT, RecordType.WORKER_LOST)


@attrs.define
class HistoryFold:
    """Takes a history line by line, so that it is never in memory as a whole.

    `running` is the current attempt of each action that was started and has not ended, `completions` counts how often
    an action completed, `end` is the state in which the flow ended. `problems` are contradictions in the history.
    """

    lines: int = 0
    whole: bool = True
    running: dict[RunId, int] = attrs.field(factory=dict)
    completions: Counter[RunId] = attrs.field(factory=Counter)
    completed_attempts: dict[RunId, int] = attrs.field(factory=dict)
    paused: bool = False
    end: State | None = None
    problems: list[str] = attrs.field(factory=list)
    _at_ms: int = 0
    _ended: set[tuple[RunId, int]] = attrs.field(factory=set)

    def take(self, text: bytes) -> None:
        """One line, as it is stored: `<ms> <JSON array>`."""
        try:
            time_ms, _, entry = text.partition(b" ")
            at_ms = int(time_ms)
            letter, action_id, attempt, _, _ = codec.decode_record(entry)
            kind = RecordType(letter)
        except (ValueError, TypeError):
            self._add_problem(f"history line {self.lines} can't be read: {text[:80]!r}")
            self.lines += 1
            return
        where = f"history line {self.lines} ({kind.name}"
        where += f" of action {action_id}, attempt {attempt})" if attempt else ")"
        if self.lines == 0:
            self.whole = kind is RecordType.STARTED
        elif kind is RecordType.STARTED:
            self._add_problem(f"{where}: the flow had started before")
        if at_ms < self._at_ms:
            self._add_problem(f"{where}: it is older than the line before it")
        if self.end is not None and kind is not RecordType.LATE:
            self._add_problem(f"{where}: the flow was over before")
        self.lines += 1
        self._at_ms = at_ms
        self._fold(kind, action_id, attempt, where)

    def _fold(self, kind: RecordType, action_id: RunId, attempt: int, where: str) -> None:
        if kind in _ATTEMPT_ENDS:
            if (action_id, attempt) in self._ended:
                self._add_problem(f"{where}: the attempt had ended before")
            self._ended.add((action_id, attempt))
            self.running.pop(action_id, None)
        match kind:
            case RecordType.COMPLETED:
                self.completions[action_id] += 1
                self.completed_attempts[action_id] = attempt
            case RecordType.SCHEDULED | RecordType.RETRY | RecordType.POSTPONED:
                if self.paused and kind is RecordType.SCHEDULED:
                    self._add_problem(f"{where}: the flow was paused")
                self.running[action_id] = attempt
            case RecordType.HANDED_OUT:
                if self.paused:
                    self._add_problem(f"{where}: the flow was paused")
                if self.whole and self.running.get(action_id) != attempt:
                    self._add_problem(f"{where}: the running attempt was {self.running.get(action_id)}")
            case RecordType.PAUSED:
                self.paused = True
            case RecordType.RESUMED:
                self.paused = False
            case RecordType.FLOW_COMPLETED | RecordType.FLOW_FAILED | RecordType.FLOW_CANCELLED:
                self.end = ENDS[kind]
                self.running.clear()
            case _:
                pass

    def _add_problem(self, problem: str) -> None:
        self.problems.append(problem)
