"""The QuickJS engine: a fresh context for each evaluation, with limits of its own. Runs in a worker process."""

from __future__ import annotations

import re
import time

import quickjs

STACK_BYTES_MAX = 512 * 1024
_PLACE = re.compile(r"<input>:(\d+)")

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
        world = quickjs.Context()
        # What is there before the script begins is not the script's.
        world.set_memory_limit(self._memory_limit_bytes + 4 * len(context))
        world.set_max_stack_size(STACK_BYTES_MAX)
        changes = world.eval(self._prelude)
        changes(context)
        give_up_at = time.monotonic() + self._time_limit_seconds
        world.set_time_limit(self._time_limit_seconds)
        try:
            world.eval(expression + NO_VALUE)
            while world.execute_pending_job():
                if time.monotonic() > give_up_at:
                    return "time", self._too_long()
            return "ok", changes()
        except quickjs.StackOverflow as error:
            return "memory", _told(str(error))[0]
        except quickjs.JSException as error:
            text = str(error)
        message, line = _told(text)
        if message.startswith("InternalError: interrupted"):
            return "time", self._too_long()
        if message.startswith("InternalError: out of memory"):
            return "memory", f"the script needs more than {self._memory_limit_bytes >> 20} MB of memory"
        if "which JSON can not hold" in message or "circular" in message:
            return "value", message
        where = f" (line {line})" if line else ""
        return ("syntax" if message.startswith("SyntaxError") else "throw"), message + where

    def _too_long(self) -> str:
        return f"the script ran for more than {self._time_limit_seconds:g} s"


def _told(text: str) -> tuple[str, str]:
    """The message without the stack, and the line that it came from."""
    message, _, stack = text.partition("\n    at ")
    place = _PLACE.search(stack)
    return message.removesuffix("\nundefined").strip(), place[1] if place else ""
