"""The QuickJS engine: a fresh context for each evaluation, with its own limits. Runs in a worker process.

The time limit is of CPU time, so that other load on the machine takes nothing from a script.
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
#: A context of up to this many characters is assumed to need CONTEXT_BYTES_MAX; for a longer one it is measured.
CONTEXT_CHARACTERS_SMALL = 64 * 1024
CONTEXT_BYTES_MAX = 64 * CONTEXT_CHARACTERS_SMALL
#: A stack frame: the function, if it has a name, and the line.
_FRAME = re.compile(r"at (?:([^\n]*?) \()?<input>:(\d+)")
_PLACE = re.compile(r"<input>:(\d+):(\d+)")
#: The binding's message if the thrown value can't be converted to a string.
_NO_TEXT = "(Failed obtaining QuickJS error string"


class Engine:
    """See `worker`."""

    spare_bytes = 32 * 2**20
    survives_timeout = True

    def __init__(self, prelude: str, time_limit_seconds: float, memory_limit_bytes: int) -> None:
        self._prelude = prelude
        self._time_limit_seconds = time_limit_seconds
        self._memory_limit_bytes = memory_limit_bytes
        self.renew()

    def renew(self) -> None:
        """Replace the context by a fresh one."""
        self._js = quickjs.Context()
        self._js.set_max_stack_size(STACK_BYTES_MAX)
        self._prelude_function = self._js.eval(self._prelude)
        self._peak_before_bytes = status_bytes("VmHWM")

    def evaluate(self, expression: str, context: str) -> Answer:
        """Run a script. At most once for each `renew`."""
        js, prelude = self._js, self._prelude_function
        prelude(context)
        # The context itself does not count towards the script's limit.
        before_bytes = CONTEXT_BYTES_MAX
        if len(context) > CONTEXT_CHARACTERS_SMALL:
            before_bytes = js.memory()["malloc_size"]
            self._peak_before_bytes = status_bytes("VmHWM")
        js.set_memory_limit(before_bytes + self._memory_limit_bytes)
        ends_at = time.process_time() + self._time_limit_seconds
        js.set_time_limit(self._time_limit_seconds)
        try:
            js.eval(expression + NO_VALUE)
            # Each job would start with the full limit again, so it is set to what is left.
            while (left_seconds := ends_at - time.process_time()) > 0:
                js.set_time_limit(left_seconds)
                if not js.execute_pending_job():
                    break
            else:
                return out_of_time(self._time_limit_seconds)
        except quickjs.JSException as error:
            return self._failure(str(error), expression)
        js.set_time_limit(max(left_seconds, RESULT_SECONDS_MIN))
        try:
            return "ok", prelude()
        except quickjs.JSException as error:
            text = str(error)
        if text.startswith("InternalError"):
            return self._failure(text, expression)
        js.set_time_limit(RESULT_SECONDS_MIN)
        return refusal(prelude(None), text) or self._failure(text, expression)

    def parse(self, script: str) -> Answer:
        """Parse a script. At most once for each `renew`."""
        self._prelude_function("{}")  # defines `$`, as a script can't declare a name that is defined
        parse = Parse(script)
        self._js.set_time_limit(self._time_limit_seconds)
        self._js.set_memory_limit(CONTEXT_BYTES_MAX + self._memory_limit_bytes)
        try:
            self._js.eval(parse.text)
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
        """The binding's text is the thrown value, then the stack, `undefined` or nothing."""
        message, _, stack = text.partition("\n    at ")
        message = message.removesuffix("\nundefined").strip()
        if message.startswith("InternalError: interrupted"):
            return out_of_time(self._time_limit_seconds)
        if message.startswith("InternalError: out of memory") or (message == "null" and self._grew()):
            return out_of_memory(self._memory_limit_bytes)
        if message.startswith(_NO_TEXT):
            message = ""
        # An unexpected end is reported in the appended line.
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
        """Whether memory ran out. QuickJS throws null if there is too little left to create an error."""
        grown_bytes = status_bytes("VmHWM") - self._peak_before_bytes
        held_bytes: int = self._js.memory()["malloc_size"]
        return max(grown_bytes, held_bytes) > self._memory_limit_bytes // 2
