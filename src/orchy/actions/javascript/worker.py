"""The worker process: `python start.py ENGINE TIME_LIMIT_SECONDS MEMORY_LIMIT_BYTES OUTPUT_LIMIT_BYTES DEPTH_MAX`.

Reads requests from its standard input, answers on its standard output, and ends when its input does. It imports as
little as it can, so that a killed one is replaced fast.

A request is a head (`REQUEST`: after how many seconds the parent gives up, whether the script is only to be parsed,
bytes of script, bytes of context) and the two texts in UTF-8, the context as JSON. An answer is a head (`ANSWER`: index
in `KINDS`, whether it was this worker's last, bytes of text) and the text. The first answer comes unasked, when the
worker is ready.

A script that runs on when nobody is left to kill it is ended by an alarm of the system's own. (PR_SET_PDEATHSIG is no
way: it follows the thread that started the process, and that one may well end before its process.)
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
#: The parent kills an evaluation that overruns; this long after it should have, the system does.
ALARM_AFTER_SECONDS = 1.0
#: How long an engine may take to make a new world and to let go of the last.
RENEW_SECONDS_MAX = 5.0
#: The process may have this many times the memory limit beside what it has when it begins, for an engine's own ways;
#: and for each byte of the context.
MEMORY_LIMIT_TIMES = 2
CONTEXT_TIMES = 80
#: How often the worker looks whether it has grown.
SCRIPTS_PER_LOOK = 64
_STRINGS = re.compile(r'"(?:[^"\\]++|\\.)*+"')
_NOT_BRACKETS = re.compile(r"[^\[\]{}]+")
_DEPTH_OF_BRACKET = {"[": 1, "{": 1, "]": -1, "}": -1}


class Engine(Protocol):
    """What `quickjs_engine` and `v8_engine` are."""

    #: What the process may need beside the limit of the script.
    spare_bytes: int
    #: Whether the process is as good as new after a script was stopped.
    survives_timeout: bool

    def renew(self) -> None:
        """Make the world of the next evaluation, and let go of the last one's."""
        ...

    def evaluate(self, expression: str, context: str) -> Answer:
        """Run a script over a context, given as JSON text. Once for each `renew`."""
        ...

    def parse(self, script: str) -> Answer:
        """Parse a script. "syntax" comes with a JSON object: message, line, column. Once for each `renew`."""
        ...


def main(
    engine_name: str, time_limit_seconds: float, memory_limit_bytes: int, output_limit_bytes: int, depth_max: int
) -> None:
    """Answer requests until there are no more, or until this process is not what it was."""
    answers = os.dup(1)
    os.dup2(2, 1)  # whatever an engine prints is not an answer
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    source = Path(__file__).with_name("prelude.js").read_text("utf-8")
    # An engine reads it for each script: without what is for people.
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
        if not last and scripts % SCRIPTS_PER_LOOK == 0:
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
    except Exception as error:  # the binding's own: it could not make a Python value of something
        return failure("value", f"the engine could not hand over the result: {error}")
    return kind, text


def _checked(text: str, output_limit_bytes: int, depth_max: int) -> Answer:
    """The result, if it is one that the rest of the system takes."""
    if len(text) > output_limit_bytes or len(text.encode()) > output_limit_bytes:
        return failure("size", f"the result has more than {output_limit_bytes} bytes")
    if text.count("[") + text.count("{") > depth_max:
        brackets = _NOT_BRACKETS.sub("", _STRINGS.sub("", text))
        # The whole is an object, and not the script's.
        if max(accumulate(map(_DEPTH_OF_BRACKET.__getitem__, brackets))) - 1 > depth_max:
            return failure("value", f"the result is nested deeper than {depth_max}")
    if "\\ud" in text:  # engines write out what is no whole character, but so may a script in a string
        try:
            json.dumps(json.loads(text), ensure_ascii=False).encode()
        except UnicodeEncodeError:
            return failure("value", "the result has a text with half of a surrogate pair")
    return "ok", text


def _limit_data(limit_bytes: int) -> None:
    """Of all memory of the process that it can write to. (V8 reserves a thousand times that, and can't write to it.)"""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        limit_bytes = min(limit_bytes, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes, hard))


def _read(count: int) -> bytes | None:
    """So many bytes, None when the input ends."""
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
