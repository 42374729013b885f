"""The worker process: `python worker.py ENGINE TIME_LIMIT_SECONDS MEMORY_LIMIT_BYTES OUTPUT_LIMIT_BYTES`.

Reads requests from its standard input and answers on its standard output, each a length (4 bytes, big endian) and
that many bytes: a request is a JSON array [expression, context as JSON text], an answer [kind, text]. Ends when its
input does.

It imports as little as it can, so that a killed one is replaced fast. An alarm of the system's own ends it if a script
runs on when nobody is left to kill it.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import sys
from pathlib import Path

#: What the process itself may have beside the script's memory: the engine, and what it keeps mapped.
ENGINE_BYTES = {"quickjs": 256 * 2**20, "v8": 1024 * 2**20}
#: The parent kills an evaluation that overruns; this long after its limit the system does.
ALARM_AFTER_SECONDS = 3.0


def main(engine_name: str, time_limit_seconds: float, memory_limit_bytes: int, output_limit_bytes: int) -> None:
    """Answer requests until there are no more."""
    answers = os.dup(1)
    os.dup2(2, 1)  # whatever an engine prints is not an answer
    limit_bytes = ENGINE_BYTES[engine_name] + 4 * memory_limit_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes, limit_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    prelude = (Path(__file__).parent / "prelude.js").read_text("utf-8")
    module = importlib.import_module(f"{engine_name}_engine")
    engine = module.Engine(prelude, time_limit_seconds, memory_limit_bytes)
    engine.evaluate("1", "{}")
    _write(answers, ["ready", ""])
    while (request := _read()) is not None:
        expression, context = json.loads(request)
        signal.setitimer(signal.ITIMER_REAL, time_limit_seconds + ALARM_AFTER_SECONDS)
        try:
            kind, text = engine.evaluate(expression, context)
        except Exception as error:  # the binding's own: it could not make a Python value of something
            kind, text = "value", f"the engine could not hand over the result: {error}"
        signal.setitimer(signal.ITIMER_REAL, 0)
        if len(text) > output_limit_bytes:
            kind, text = "size", f"the result has more than {output_limit_bytes} bytes"
        _write(answers, [kind, text])


def _read() -> bytes | None:
    head = _read_exactly(4)
    return None if head is None else _read_exactly(int.from_bytes(head, "big"))


def _read_exactly(count: int) -> bytes | None:
    parts = []
    while count:
        part = os.read(0, min(count, 1 << 20))
        if not part:
            return None
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def _write(fd: int, answer: list[str]) -> None:
    body = json.dumps(answer).encode()
    rest = memoryview(len(body).to_bytes(4, "big") + body)
    while rest:
        rest = rest[os.write(fd, rest) :]


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
