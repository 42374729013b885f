"""Freezing: what SIGSTOP does to a process, done to all tasks of one simulated node.

When Trio wakes a task of a frozen node, the task keeps the value it was woken with and goes back to sleep; at the thaw
it continues with that value. Clocks run on meanwhile, and deadlines and cancellations that came are seen at the thaw,
as after SIGCONT.

This happens in the one place that each step of a task goes through, its coroutine's `send`. A task belongs to the
process of its parent task.
"""

from __future__ import annotations

from typing import Any

import trio
from trio._core._traps import WaitTaskRescheduled

_NOTHING = object()


class Process:
    """Tasks that can be frozen together."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.frozen = False
        self._held: list[_Gate] = []

    def adopt(self) -> None:
        """Make the calling task, and all its future children, part of this process."""
        task = trio.lowlevel.current_task()
        task.coro = _Gate(task, self)  # type: ignore[assignment]

    def freeze(self) -> None:
        """Stop all its tasks at their next step."""
        self.frozen = True

    def thaw(self) -> None:
        """Let all its tasks continue."""
        self.frozen = False
        held, self._held = self._held, []
        for gate in held:
            trio.lowlevel.reschedule(gate.task)

    def hold(self, gate: _Gate) -> None:
        """Wake this task at the thaw."""
        self._held.append(gate)


class _Gate:
    """Wraps a task's coroutine. Once `failure` is set, each step of each process raises it."""

    failure: Exception | None = None

    def __init__(self, task: trio.lowlevel.Task, process: Process) -> None:
        self.task = task
        self.process = process
        self._coro: Any = task.coro
        self._kept: Any = _NOTHING

    def send(self, value: Any) -> Any:
        if _Gate.failure is not None:
            return self._coro.throw(_Gate.failure)
        if self.process.frozen:
            if self._kept is _NOTHING:
                self._kept = value
            self.process.hold(self)
            return WaitTaskRescheduled(lambda _: trio.lowlevel.Abort.FAILED)
        if self._kept is not _NOTHING:
            value, self._kept = self._kept, _NOTHING
        return self._coro.send(value)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._coro, name)


def end_all(reason: Exception | None) -> None:
    """Make each task of any process raise `reason` at its next step, shielded or not; None resets that."""
    _Gate.failure = reason


class ProcessInheritance(trio.abc.Instrument):
    """Puts each new task into its parent's process."""

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        """Called by Trio before the task's first step."""
        nursery = task.parent_nursery
        if nursery is not None:
            gate = nursery.parent_task.coro
            if isinstance(gate, _Gate):
                task.coro = _Gate(task, gate.process)  # type: ignore[assignment]


def current_process() -> str:
    """The name of the calling task's process, or "world"."""
    coro: Any = trio.lowlevel.current_task().coro
    return coro.process.name if isinstance(coro, _Gate) else "world"
