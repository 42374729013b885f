"""Tasks that stand still: what SIGSTOP does to a process, done to all tasks of one simulated node.

A task of a frozen node that Trio wants to run takes note of why it was woken and goes back to sleep; at the thaw it
goes on with just that, its memory as it was, while the world has moved on. Clocks run on meanwhile, deadlines pass
and cancellations come, and are met with at the thaw, as after SIGCONT.

This is done at the one place that all of a task's steps go through, its coroutine's `send`. A task belongs to a
process if its parent task does.
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
        """From now on the calling task, and all tasks that come of it, belong to this process."""
        task = trio.lowlevel.current_task()
        task.coro = _Gate(task, self)  # type: ignore[assignment]

    def freeze(self) -> None:
        """Nothing of it runs from the next step on."""
        self.frozen = True

    def thaw(self) -> None:
        """All goes on."""
        self.frozen = False
        held, self._held = self._held, []
        for gate in held:
            trio.lowlevel.reschedule(gate.task)

    def hold(self, gate: _Gate) -> None:
        """A task to be woken at the thaw."""
        self._held.append(gate)


class _Gate:
    """Stands for a task's coroutine. `failure`, once there is one, is what each step of each process raises."""

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
    """Let no task of any process do another step, whatever shields it; None: the next run begins."""
    _Gate.failure = reason


class ProcessInheritance(trio.abc.Instrument):
    """Puts new tasks into their parents' processes."""

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        """Called by Trio before the task's first step."""
        nursery = task.parent_nursery
        if nursery is not None:
            gate = nursery.parent_task.coro
            if isinstance(gate, _Gate):
                task.coro = _Gate(task, gate.process)  # type: ignore[assignment]


def current_process() -> str:
    """The name of the process that the calling task is of, or "world"."""
    coro: Any = trio.lowlevel.current_task().coro
    return coro.process.name if isinstance(coro, _Gate) else "world"
