"""The V8 engine: a fresh isolate for each evaluation. Runs in a worker process.

V8 aborts the process when its memory runs out: that ends the worker, and the pool says so.
"""

from __future__ import annotations

import re
from typing import Any

from py_mini_racer import JSEvalException, JSOOMException, JSParseException, JSTimeoutException, MiniRacer

_FIRST_LINE = re.compile(r"(?s)<anonymous>:(\d+): (.*)")

#: A script's own value is nobody's, and might be one that has no counterpart here.
NO_VALUE = "\n;undefined"


class Engine:
    """See `worker`."""

    def __init__(self, prelude: str, time_limit_seconds: float, memory_limit_bytes: int) -> None:
        self._prelude = prelude
        self._time_limit_seconds = time_limit_seconds
        self._memory_limit_bytes = memory_limit_bytes

    def evaluate(self, expression: str, context: str) -> tuple[str, str]:
        """("ok", changed keys as JSON text), or (kind of failure, message)."""
        with MiniRacer() as world:
            world.set_hard_memory_limit(self._memory_limit_bytes + 4 * len(context))
            changes: Any = world.eval(self._prelude)
            changes(context)
            try:
                world.eval(expression + NO_VALUE, timeout_sec=self._time_limit_seconds)
                return "ok", changes(timeout_sec=self._time_limit_seconds)
            except JSTimeoutException:
                return "time", f"the script ran for more than {self._time_limit_seconds:g} s"
            except JSOOMException:
                return "memory", f"the script needs more than {self._memory_limit_bytes >> 20} MB of memory"
            except JSParseException as error:
                message, line = _told(str(error), expression)
                return "syntax", f"{message} (line {line})"
            except JSEvalException as error:
                message, line = _told(str(error), expression)
        if "Maximum call stack size" in message:
            return "memory", message
        if "which JSON can not hold" in message or "circular" in message:
            return "value", message
        return "throw", f"{message} (line {line})"


def _told(text: str, expression: str) -> tuple[str, str]:
    """The message and the line. V8 shows the message, the line of source, a caret and the stack."""
    match = _FIRST_LINE.match(text)
    if match is None:
        return text.strip(), "?"
    line, rest = match[1], match[2]
    source = expression.split("\n")
    shown = source[int(line) - 1] if 0 < int(line) <= len(source) else ""
    message = rest.partition(f"\n{shown}\n")[0] if shown else rest.partition("\n")[0]
    return message.strip(), line
