"""What every engine's failures are told as. Runs in a worker process: relies on the standard library alone."""

from __future__ import annotations

import json

#: A script's own value is nobody's, and might be one that has no counterpart here. On a line of its own, for a script
#: that ends in a comment.
NO_VALUE = "\n;undefined"
#: What a script still gets to say its result when it has used its time up.
RESULT_SECONDS_MIN = 0.1
MESSAGE_CHARACTERS_MAX = 1_000

#: (kind, text): kind is "ok" and text the changed keys as JSON, or kind as in the port's ScriptFailure and a message.
Answer = tuple[str, str]


def failure(kind: str, message: str, line: str | int | None = None) -> Answer:
    """A failure in one line that is not too long."""
    text = " ".join(message.split()) or "the script threw something that has no text"
    if len(text) > MESSAGE_CHARACTERS_MAX:
        text = text[:MESSAGE_CHARACTERS_MAX] + "..."
    return kind, f"{text} (line {line})" if line else text


def out_of_time(time_limit_seconds: float) -> Answer:
    """It ran too long."""
    return failure("time", f"the script ran for more than {time_limit_seconds:g} s")


def out_of_memory(memory_limit_bytes: int) -> Answer:
    """It took too much memory."""
    return failure("memory", f"the script needs more than {memory_limit_bytes / 2**20:g} MB of memory")


def refusal(why: str, message: str) -> Answer | None:
    """What the prelude's f(null) says of a result, None when the script itself threw while it was read.

    `message` is the engine's: only it knows of a cycle.
    """
    reason, _, key = why.partition("\n")
    if not reason and message.startswith("TypeError") and "circular" in message:
        reason = f"the result has a circular reference at {json.dumps(key)}, which JSON can not hold"
    return failure("value", reason) if reason else None
