"""The QuickJS engine: a fresh context for each evaluation, with limits of its own. Runs in a worker process.

Its time limit is of processor time, so a busy machine takes nothing from a script.
"""

from __future__ import annotations

import re
import time

import quickjs

from orchy.actions.javascript.failures import (
    NO_VALUE,
    RESULT_SECONDS_MIN,
    Answer,
    failure,
    out_of_memory,
    out_of_time,
    refusal,
)
from orchy.actions.javascript.memory import status_bytes
from orchy.actions.javascript.parsing import PARSED, Parse

STACK_BYTES_MAX = 512 * 1024
#: Up to this many characters a context is taken to need CONTEXT_BYTES_MAX; what a longer one needs is measured.
CONTEXT_CHARACTERS_SMALL = 64 * 1024
CONTEXT_BYTES_MAX = 64 * CONTEXT_CHARACTERS_SMALL
#: A line of the stack: the function, and the line that it was at. Some have no function.
_FRAME = re.compile(r"at (?:([^\n]*?) \()?<input>:(\d+)")
_PLACE = re.compile(r"<input>:(\d+):(\d+)")
#: What the binding says when the thrown thing can't be made a text.
_NO_TEXT = "(Failed obtaining QuickJS error string"


class Engine:
    """See `worker`."""

    #: What the process may need beside the limit of the script.
    spare_bytes = 32 * 2**20
    #: Whether the process is as good as new after a script was stopped.
    survives_timeout = True

    def __init__(self, prelude: str, time_limit_seconds: float, memory_limit_bytes: int) -> None:
        self._prelude = prelude
        self._time_limit_seconds = time_limit_seconds
        self._memory_limit_bytes = memory_limit_bytes
        self.renew()

    def renew(self) -> None:
        """Make the world of the next evaluation, and let go of the last one's."""
        self._world = quickjs.Context()
        self._world.set_max_stack_size(STACK_BYTES_MAX)
        self._prelude_of_world = self._world.eval(self._prelude)
        self._peak_before_bytes = status_bytes("VmHWM")

    def evaluate(self, expression: str, context: str) -> Answer:
        """Once for each `renew`."""
        world, prelude = self._world, self._prelude_of_world
        prelude(context)
        # What is there before the script begins is not the script's.
        before_bytes = CONTEXT_BYTES_MAX
        if len(context) > CONTEXT_CHARACTERS_SMALL:
            before_bytes = world.memory()["malloc_size"]
            self._peak_before_bytes = status_bytes("VmHWM")
        world.set_memory_limit(before_bytes + self._memory_limit_bytes)
        ends_at = time.process_time() + self._time_limit_seconds
        world.set_time_limit(self._time_limit_seconds)
        try:
            world.eval(expression + NO_VALUE)
            # Each job has the whole of the limit anew unless it is told otherwise.
            while (left_seconds := ends_at - time.process_time()) > 0:
                world.set_time_limit(left_seconds)
                if not world.execute_pending_job():
                    break
            else:
                return out_of_time(self._time_limit_seconds)
        except quickjs.JSException as error:
            return self._failure(str(error), expression)
        world.set_time_limit(max(left_seconds, RESULT_SECONDS_MIN))
        try:
            return "ok", prelude()
        except quickjs.JSException as error:
            text = str(error)
        if text.startswith("InternalError"):
            return self._failure(text, expression)
        world.set_time_limit(RESULT_SECONDS_MIN)
        return refusal(prelude(None), text) or self._failure(text, expression)

    def parse(self, script: str) -> Answer:
        """Once for each `renew`."""
        self._prelude_of_world("{}")  # a script can't declare what is there
        parse = Parse(script)
        self._world.set_time_limit(self._time_limit_seconds)
        self._world.set_memory_limit(CONTEXT_BYTES_MAX + self._memory_limit_bytes)
        try:
            self._world.eval(parse.text)
        except quickjs.JSException as error:
            message, _, stack = str(error).partition("\n    at ")
        if message.startswith("InternalError: out of memory"):
            return out_of_memory(self._memory_limit_bytes)
        if message.startswith("InternalError: interrupted"):
            return out_of_time(self._time_limit_seconds)
        if message.removesuffix("\nundefined") == PARSED:
            return "ok", ""
        place = _PLACE.match(stack)
        return parse.failure(message.strip(), *(map(int, place.groups()) if place else (None, None)))

    def _failure(self, text: str, expression: str) -> Answer:
        """The binding gives what was thrown as text, then the stack, `undefined` or nothing."""
        message, _, stack = text.partition("\n    at ")
        message = message.removesuffix("\nundefined").strip()
        if message.startswith("InternalError: interrupted"):
            return out_of_time(self._time_limit_seconds)
        if message.startswith("InternalError: out of memory") or (message == "null" and self._grew()):
            return out_of_memory(self._memory_limit_bytes)
        if message.startswith(_NO_TEXT):
            message = ""
        # An end that comes too early is counted in the line that was added.
        lines = expression.count("\n") + 1
        places = (
            min(int(frame[2]), lines)
            for frame in _FRAME.finditer("at " + stack)
            if not (frame[1] or "").startswith("orchy_")
        )
        kind = "throw"
        if message.startswith("SyntaxError"):
            kind = "syntax"
        elif message.startswith("RangeError: Maximum call stack size"):
            kind = "memory"
        return failure(kind, message, next(places, None))

    def _grew(self) -> bool:
        """Whether memory ran out so far that not even an error could be made of it: then null is thrown instead."""
        grown_bytes = status_bytes("VmHWM") - self._peak_before_bytes
        held_bytes: int = self._world.memory()["malloc_size"]
        return max(grown_bytes, held_bytes) > self._memory_limit_bytes // 2
