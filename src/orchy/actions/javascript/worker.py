"""The worker process: `python start.py ENGINE TIME_LIMIT_SECONDS MEMORY_LIMIT_BYTES OUTPUT_LIMIT_BYTES DEPTH_MAX`.

Reads requests from standard input, answers on standard output, and exits when its input ends. It imports as little as
possible, so that a killed worker is replaced fast.

A request is a header (`REQUEST`: seconds until the parent gives up, whether to parse only, bytes of script, bytes of
context) and the two texts in UTF-8, the context as JSON. An answer is a header (`ANSWER`: index in `KINDS`, whether it
is this worker's last, bytes of text) and the text. The first answer is sent without a request, when the worker is
ready.

If the parent is gone and can't kill an endless script, SIGALRM ends it. (PR_SET_PDEATHSIG would not do: it is tied to
the thread that started the process, which may end before its process.)
"""

from __future__ import annotations

import importlib
import json
import os
import re
import resource
import signal
import struct
from itertools import accumulate
from pathlib import Path
from typing import Protocol

from orchy.actions.javascript.failures import Answer, failure
from orchy.actions.javascript.memory import status_bytes

REQUEST = struct.Struct("!d?II")
ANSWER = struct.Struct("!B?I")
KINDS = ("ok", "throw", "syntax", "time", "memory", "value", "size")
#: The alarm goes off this long after the parent should have killed an evaluation that overruns.
ALARM_AFTER_SECONDS = 1.0
#: How long an engine may take to replace its context.
RENEW_SECONDS_MAX = 5.0
#: On top of what the process needs at the start, it may use the memory limit times this, for the engine's overhead, and
#: so many bytes for each byte of the context.
MEMORY_LIMIT_TIMES = 2
CONTEXT_TIMES = 80
#: After how many scripts the worker checks whether it has grown.
SCRIPTS_PER_CHECK = 64
_STRINGS = re.compile(r'"(?:[^"\\]++|\\.)*+"')
_NOT_BRACKETS = re.compile(r"[^\[\]{}]+")
_DEPTH_OF_BRACKET = {"[": 1, "{": 1, "]": -1, "}": -1}


class Engine(Protocol):
    """The interface of `quickjs_engine` and `v8_engine`."""

    #: Memory that the process may need on top of the script's limit.
    spare_bytes: int
    #: Whether the process can be reused after a script was stopped.
    survives_timeout: bool

    def renew(self) -> None:
        """Replace the engine's context by a fresh one for the next evaluation."""
        ...

    def evaluate(self, expression: str, context: str) -> Answer:
        """Run a script over a context, given as JSON. At most once for each `renew`."""
        ...

    def parse(self, script: str) -> Answer:
        """Parse a script. "syntax" comes with a JSON object: message, line, column. At most once for each `renew`."""
        ...


def main(
    engine_name: str, time_limit_seconds: float, memory_limit_bytes: int, output_limit_bytes: int, depth_max: int
) -> None:
    """Answer requests until there are no more, or until this process should be replaced."""
    answers = os.dup(1)
    os.dup2(2, 1)  # an engine may print to standard output, which must not look like an answer
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    source = Path(__file__).with_name("prelude.js").read_text("utf-8")
    # Stripped of comments and indentation, as an engine parses it for each script.
    lines = map(str.strip, source.splitlines())
    prelude = "\n".join(line for line in lines if line.startswith("//#") or not line.startswith("//"))
    module = importlib.import_module(f"orchy.actions.javascript.{engine_name}_engine")
    engine: Engine = module.Engine(prelude, time_limit_seconds, memory_limit_bytes)
    engine.evaluate("$.ready = true", "{}")
    engine.renew()
    data_limit_bytes = status_bytes("VmData") + engine.spare_bytes + MEMORY_LIMIT_TIMES * memory_limit_bytes
    resident_limit_bytes = status_bytes("VmRSS") + engine.spare_bytes + memory_limit_bytes
    _write(answers, ("ok", ""), last=False)
    scripts = 0
    while (head := _read(REQUEST.size)) is not None:
        kill_after_seconds, is_parsed_only, script_bytes, context_bytes = REQUEST.unpack(head)
        script, context = _read(script_bytes), _read(context_bytes)
        if script is None or context is None:
            return
        signal.setitimer(signal.ITIMER_REAL, kill_after_seconds + ALARM_AFTER_SECONDS)
        _limit_data(data_limit_bytes + CONTEXT_TIMES * (context_bytes + script_bytes))
        if is_parsed_only:
            answer = _parsed(engine, script.decode())
        else:
            answer = _answer(engine, script.decode(), context.decode(), output_limit_bytes, depth_max)
        signal.setitimer(signal.ITIMER_REAL, 0)
        scripts += 1
        last = answer[0] == "memory" or (answer[0] == "time" and not engine.survives_timeout)
        if not last and scripts % SCRIPTS_PER_CHECK == 0:
            last = status_bytes("VmRSS") > resident_limit_bytes
        _write(answers, answer, last)
        if last:
            return
        signal.setitimer(signal.ITIMER_REAL, RENEW_SECONDS_MAX)
        engine.renew()
        signal.setitimer(signal.ITIMER_REAL, 0)


def _parsed(engine: Engine, script: str) -> Answer:
    before = script.partition("\0")[0]
    if before != script:
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        return "syntax", json.dumps({"message": "SyntaxError: invalid character: NUL", "line": line, "column": column})
    try:
        return engine.parse(script)
    except MemoryError:
        return failure("memory", "the script needs more memory than its process may have")


def _answer(engine: Engine, script: str, context: str, output_limit_bytes: int, depth_max: int) -> Answer:
    line = script.partition("\0")[0].count("\n") + 1
    if "\0" in script:
        return failure("syntax", "SyntaxError: invalid character: NUL", line)
    try:
        kind, text = engine.evaluate(script, context)
        if kind == "ok":
            return _checked(text, output_limit_bytes, depth_max)
    except MemoryError:
        return failure("memory", "the script needs more memory than its process may have")
    except RecursionError:
        return failure("value", "the result is nested too deeply")
    except Exception as error:  # the binding could not convert something to a Python value
        return failure("value", f"the engine could not hand over the result: {error}")
    return kind, text


def _checked(text: str, output_limit_bytes: int, depth_max: int) -> Answer:
    """The result, if it is within the limits of the rest of the system."""
    if len(text) > output_limit_bytes or len(text.encode()) > output_limit_bytes:
        return failure("size", f"the result has more than {output_limit_bytes} bytes")
    if text.count("[") + text.count("{") > depth_max:
        brackets = _NOT_BRACKETS.sub("", _STRINGS.sub("", text))
        # The outermost object is not the script's own.
        if max(accumulate(map(_DEPTH_OF_BRACKET.__getitem__, brackets))) - 1 > depth_max:
            return failure("value", f"the result is nested deeper than {depth_max}")
    if "\\ud" in text:  # a lone surrogate, which engines escape, or that text in a string of the script
        try:
            json.dumps(json.loads(text), ensure_ascii=False).encode()
        except UnicodeEncodeError:
            return failure("value", "the result has a text with half of a surrogate pair")
    return "ok", text


def _limit_data(limit_bytes: int) -> None:
    """Limit the writable memory of the process. (V8 reserves a thousand times that without write access.)"""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        limit_bytes = min(limit_bytes, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes, hard))


def _read(count: int) -> bytes | None:
    """Read exactly `count` bytes; None if the input ends."""
    parts = []
    while count:
        part = os.read(0, min(count, 1 << 20))
        if not part:
            return None
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def _write(fd: int, answer: Answer, last: bool) -> None:
    kind, text = answer
    body = text.encode("utf-8", "replace")
    rest = memoryview(ANSWER.pack(KINDS.index(kind), last, len(body)) + body)
    while rest:
        rest = rest[os.write(fd, rest) :]
