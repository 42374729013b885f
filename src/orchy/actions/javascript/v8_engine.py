"""The V8 engine: a fresh isolate for each evaluation. Runs in a worker process.

V8 aborts the process if memory runs out faster than it checks: that ends the worker, which the pool reports. Its own
limit does not include the memory of typed arrays, which is bounded by the limit of the process.
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

#: A context of up to this many characters is assumed to need CONTEXT_BYTES_MAX; for a longer one it is measured.
CONTEXT_CHARACTERS_SMALL = 64 * 1024
CONTEXT_BYTES_MAX = 64 * CONTEXT_CHARACTERS_SMALL
_FIRST_LINE = re.compile(r"(?s)(<anonymous>|orchy-prelude):(\d+): (.*)")
_FRAME = re.compile(r"\n    at [^\n]*?<anonymous>:(\d+)")
_CARET = re.compile(r"(?m)^( *)\^+$")
#: The binding's message if the thrown value can't be converted to a string.
_NO_TEXT = "<string conversion failed>"


class Engine:
    """See `worker`."""

    #: For the engine's threads and its generations of objects.
    spare_bytes = 128 * 2**20
    #: An isolate that was stopped may hang when it is closed.
    survives_timeout = False

    def __init__(self, prelude: str, time_limit_seconds: float, memory_limit_bytes: int) -> None:
        self._prelude = prelude
        self._time_limit_seconds = time_limit_seconds
        self._memory_limit_bytes = memory_limit_bytes
        self._js: MiniRacer | None = None
        self.renew()

    def renew(self) -> None:
        """Replace the isolate by a fresh one."""
        if self._js is not None:
            self._js.close()
        self._js = MiniRacer()
        self._prelude_function: Any = self._js.eval(self._prelude)

    def evaluate(self, expression: str, context: str) -> Answer:
        """Run a script. At most once for each `renew`."""
        js, prelude = self._js, self._prelude_function
        assert js is not None
        prelude(context)
        # The context itself does not count towards the script's limit.
        before_bytes = CONTEXT_BYTES_MAX
        if len(context) > CONTEXT_CHARACTERS_SMALL:
            before_bytes = js.heap_stats()["total_heap_size"]
        js.set_hard_memory_limit(before_bytes + self._memory_limit_bytes)
        ends_at = time.monotonic() + self._time_limit_seconds
        try:
            js.eval(expression + NO_VALUE, timeout_sec=self._time_limit_seconds)
        except JSEvalException as error:
            return self._failure(error, expression)
        try:
            # Waits for pending jobs, too.
            return "ok", prelude(timeout_sec=max(ends_at - time.monotonic(), RESULT_SECONDS_MIN))
        except JSEvalException as error:
            answer = self._failure(error, expression)
        if answer[0] in ("time", "memory"):
            return answer
        return refusal(prelude(None, timeout_sec=RESULT_SECONDS_MIN), answer[1]) or answer

    def parse(self, script: str) -> Answer:
        """Parse a script. At most once for each `renew`."""
        js = self._js
        assert js is not None
        self._prelude_function("{}")  # defines `$`, as a script can't declare a name that is defined
        js.set_hard_memory_limit(CONTEXT_BYTES_MAX + self._memory_limit_bytes)
        parse = Parse(script)
        try:
            js.eval(parse.text, timeout_sec=self._time_limit_seconds)
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
            # V8 reports an unexpected end in the appended line.
            lines = expression.count("\n") + 1
            return failure("syntax", message, min(int(line), lines) if line else None)
        kind = "throw"
        if message.startswith("SyntaxError"):
            kind = "syntax"
        elif message.startswith(("RangeError: Maximum call stack size", "RangeError: Array buffer allocation failed")):
            kind = "memory"
        return failure(kind, message, line)


def _message_and_line(text: str, expression: str) -> tuple[str, str | None]:
    """The message, and the line of the script that it came from.

    V8's text has file, line and message, then the line of source, a caret and, for an Error, the stack.
    """
    match = _FIRST_LINE.match(text)
    if match is None:
        return text.strip(), None
    file, line, rest = match.groups()
    if file != "<anonymous>":  # a getter or toJSON that was called while the result was read
        frame = _FRAME.search(rest)
        return rest.partition("\n")[0], frame[1] if frame else None
    source = expression.split("\n")
    shown = source[int(line) - 1] if 0 < int(line) <= len(source) else ""
    message = rest.partition(f"\n{shown}\n")[0] if shown else rest.partition("\n")[0]
    return message.strip(), line
