"""Log lines: text for people, or one JSON object a line for machines."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime

import attrs

from orchy.runtime.token_bucket import TokenBucket


@attrs.frozen
class LogLimits:
    """How many lines of one kind may be written."""

    #: At once.
    lines_burst: int = 100
    #: On average.
    lines_per_second: float = 1.0
    #: Kinds that are told apart; all others share one limit. The code has fewer calls that log.
    kinds_max: int = 1_000


class TextFormat(logging.Formatter):
    """`12:00:00.123 info    orchy.server.node  message`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and the traceback if there is one."""
        time = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S.%f")[:-3]
        line = f"{time} {record.levelname.lower():7} {record.name}: {record.getMessage()}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormat(logging.Formatter):
    """One object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Keys time, level, logger, message, and error with a traceback."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class LineLimit(logging.Filter):
    """Limits the rate of each kind of line, so that nobody can fill a disk by repeating what is worth a line.

    Lines are of one kind if one call in the code logs them, whatever is put into their text. The next line of a kind
    that passes says how many did not. Lines at level debug always pass: somebody asked for them. As a handler's
    filter it is used by one thread at a time.
    """

    def __init__(self, limits: LogLimits = LogLimits(), clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._limits = limits
        self._clock = clock
        self._kinds: dict[tuple[str, str, int], _Kind] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a line is written; may add to its text."""
        if record.levelno <= logging.DEBUG:
            return True
        key = (record.name, record.pathname, record.lineno)
        kind = self._kinds.get(key)
        if kind is None:
            if len(self._kinds) >= self._limits.kinds_max:
                key = ("", "", 0)
            bucket = TokenBucket(self._limits.lines_burst, self._limits.lines_per_second)
            kind = self._kinds.setdefault(key, _Kind(bucket))
        if not kind.bucket.take(self._clock()):
            kind.suppressed += 1
            return False
        if kind.suppressed:
            record.msg = f"{record.getMessage()} ({kind.suppressed} more lines like this one were not logged)"
            record.args = ()
            kind.suppressed = 0
        return True


@attrs.define
class _Kind:
    """A kind of line, and how many of it were not logged since the last one that was."""

    bucket: TokenBucket
    suppressed: int = 0


def set_up(level: str, format: str) -> None:
    """Log to standard error from now on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormat() if format == "json" else TextFormat())
    handler.addFilter(LineLimit())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("orchy").setLevel(level.upper())
