"""The messages of script failures, the same for every engine. Runs in a worker process: standard library only."""

from __future__ import annotations

import json

#: Appended to a script, as its own value is not used and may have no counterpart in Python. On a new line, for a script
#: that ends in a comment.
NO_VALUE = "\n;undefined"
#: How long reading the result may take when the script has used up its time.
RESULT_SECONDS_MIN = 0.1
MESSAGE_CHARACTERS_MAX = 1_000

#: (kind, text): "ok" with the changed keys as JSON, or the kind of a ScriptFailure with its message.
Answer = tuple[str, str]


def failure(kind: str, message: str, line: str | int | None = None) -> Answer:
    """A failure whose message is one line of limited length."""
    text = " ".join(message.split()) or "the script threw something that has no text"
    if len(text) > MESSAGE_CHARACTERS_MAX:
        text = text[:MESSAGE_CHARACTERS_MAX] + "..."
    return kind, f"{text} (line {line})" if line else text


def out_of_time(time_limit_seconds: float) -> Answer:
    """The script exceeded its time limit."""
    return failure("time", f"the script ran for more than {time_limit_seconds:g} s")


def out_of_memory(memory_limit_bytes: int) -> Answer:
    """The script exceeded its memory limit."""
    return failure("memory", f"the script needs more than {memory_limit_bytes / 2**20:g} MB of memory")


def refusal(why: str, message: str) -> Answer | None:
    """The failure for a result that the prelude refused; None if the script itself threw while the result was read.

    `why` is the prelude's f(null). `message` is the engine's, as only the engine detects a cycle.
    """
    reason, _, key = why.partition("\n")
    if not reason and message.startswith("TypeError") and "circular" in message:
        reason = f"the result has a circular reference at {json.dumps(key)}, which JSON can not hold"
    return failure("value", reason) if reason else None
