"""The V8 engine: a fresh isolate for each evaluation. Runs in a worker process.

V8 aborts the process when its memory runs out faster than it looks: that ends the worker, and the pool says so. The
memory of typed arrays is not in its own limit: the limit of the process is what bounds it.
"""

from __future__ import annotations

import re
import time
from typing import Any

from py_mini_racer import JSEvalException, JSOOMException, JSParseException, JSTimeoutException, MiniRacer

from orchy.actions.javascript.failures import (
    NO_VALUE,
    RESULT_SECONDS_MIN,
    Answer,
    failure,
    out_of_memory,
    out_of_time,
    refusal,
)
from orchy.actions.javascript.parsing import PARSED, Parse

#: Up to this many characters a context is taken to need CONTEXT_BYTES_MAX; what a longer one needs is measured.
CONTEXT_CHARACTERS_SMALL = 64 * 1024
CONTEXT_BYTES_MAX = 64 * CONTEXT_CHARACTERS_SMALL
_FIRST_LINE = re.compile(r"(?s)(<anonymous>|orchy-prelude):(\d+): (.*)")
_FRAME = re.compile(r"\n    at [^\n]*?<anonymous>:(\d+)")
_CARET = re.compile(r"(?m)^( *)\^+$")
#: What the binding says when the thrown thing can't be made a text.
_NO_TEXT = "<string conversion failed>"


class Engine:
    """See `worker`."""

    #: What the process may need beside the limit of the script: the engine's own threads and generations of objects.
    spare_bytes = 128 * 2**20
    #: An isolate that was stopped may not end: the process goes with it.
    survives_timeout = False

    def __init__(self, prelude: str, time_limit_seconds: float, memory_limit_bytes: int) -> None:
        self._prelude = prelude
        self._time_limit_seconds = time_limit_seconds
        self._memory_limit_bytes = memory_limit_bytes
        self._world: MiniRacer | None = None
        self.renew()

    def renew(self) -> None:
        """Make the world of the next evaluation, and let go of the last one's."""
        if self._world is not None:
            self._world.close()
        self._world = MiniRacer()
        self._prelude_of_world: Any = self._world.eval(self._prelude)

    def evaluate(self, expression: str, context: str) -> Answer:
        """Once for each `renew`."""
        world, prelude = self._world, self._prelude_of_world
        assert world is not None
        prelude(context)
        # What is there before the script begins is not the script's.
        before_bytes = CONTEXT_BYTES_MAX
        if len(context) > CONTEXT_CHARACTERS_SMALL:
            before_bytes = world.heap_stats()["total_heap_size"]
        world.set_hard_memory_limit(before_bytes + self._memory_limit_bytes)
        ends_at = time.monotonic() + self._time_limit_seconds
        try:
            world.eval(expression + NO_VALUE, timeout_sec=self._time_limit_seconds)
        except JSEvalException as error:
            return self._failure(error, expression)
        try:
            # Waits for the jobs, too.
            return "ok", prelude(timeout_sec=max(ends_at - time.monotonic(), RESULT_SECONDS_MIN))
        except JSEvalException as error:
            answer = self._failure(error, expression)
        if answer[0] in ("time", "memory"):
            return answer
        return refusal(prelude(None, timeout_sec=RESULT_SECONDS_MIN), answer[1]) or answer

    def parse(self, script: str) -> Answer:
        """Once for each `renew`."""
        world = self._world
        assert world is not None
        self._prelude_of_world("{}")  # a script can't declare what is there
        world.set_hard_memory_limit(CONTEXT_BYTES_MAX + self._memory_limit_bytes)
        parse = Parse(script)
        try:
            world.eval(parse.text, timeout_sec=self._time_limit_seconds)
        except (JSTimeoutException, JSOOMException) as error:
            return self._failure(error, script)
        except JSEvalException as error:
            text = str(error)
        match = _FIRST_LINE.match(text)
        message = match[3].partition("\n")[0] if match else text
        if message.removeprefix("Uncaught ") == PARSED:
            return "ok", ""
        caret = _CARET.search(text)
        return parse.failure(message, int(match[2]) if match else None, len(caret[1]) + 1 if caret else None)

    def _failure(self, error: JSEvalException, expression: str) -> Answer:
        if isinstance(error, JSTimeoutException):
            return out_of_time(self._time_limit_seconds)
        if isinstance(error, JSOOMException):
            return out_of_memory(self._memory_limit_bytes)
        message, line = _message_and_line(str(error), expression)
        if message == _NO_TEXT:
            message = ""
        if isinstance(error, JSParseException):
            # V8 counts an end that comes too early in the line that we added.
            lines = expression.count("\n") + 1
            return failure("syntax", message, min(int(line), lines) if line else None)
        kind = "throw"
        if message.startswith("SyntaxError"):
            kind = "syntax"
        elif message.startswith(("RangeError: Maximum call stack size", "RangeError: Array buffer allocation failed")):
            kind = "memory"
        return failure(kind, message, line)


def _message_and_line(text: str, expression: str) -> tuple[str, str | None]:
    """The message, and the line that it came from.

    V8 shows file, line and message, then the line of source, a caret and, for an Error, the stack.
    """
    match = _FIRST_LINE.match(text)
    if match is None:
        return text.strip(), None
    file, line, rest = match.groups()
    if file != "<anonymous>":  # a getter, or a toJSON, that was called for the result
        frame = _FRAME.search(rest)
        return rest.partition("\n")[0], frame[1] if frame else None
    source = expression.split("\n")
    shown = source[int(line) - 1] if 0 < int(line) <= len(source) else ""
    message = rest.partition(f"\n{shown}\n")[0] if shown else rest.partition("\n")[0]
    return message.strip(), line
