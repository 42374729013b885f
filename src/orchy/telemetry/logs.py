"""Log lines: text to be read at a glance, or one JSON object a line."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime

#: Of each kind of line: how many may come at once, and how often one may come after these.
LINES_BURST = 100
LINE_SECONDS = 1.0
#: Kinds that are told apart: there are not so many calls that log.
LINE_KINDS_MAX = 1_000


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
    """Lines that say the same of different things (one call in the code, whatever is put into its text) have a bound:
    `burst` at once, and one each `seconds` then. The next line that is let through says how many were not. What is
    logged at level debug was asked for, and is let through.

    So nobody fills a disk by doing again and again what is worth a line. Used by one thread at a time, as a handler's
    filter is.
    """

    def __init__(
        self, burst: int = LINES_BURST, seconds: float = LINE_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._burst = burst
        self._seconds = seconds
        self._clock = clock
        self._budgets: dict[tuple[str, str, int], _Budget] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a line is written; it may get an addition."""
        if record.levelno <= logging.DEBUG:
            return True
        key = (record.name, record.pathname, record.lineno)
        budget = self._budgets.get(key)
        if budget is None:
            if len(self._budgets) >= LINE_KINDS_MAX:
                key = ("", "", 0)
            budget = self._budgets.setdefault(key, _Budget(self._burst, self._clock()))
        if not budget.take(self._burst, self._seconds, self._clock()):
            return False
        if budget.suppressed:
            record.msg = f"{record.getMessage()} ({budget.suppressed} more lines like this one were not logged)"
            record.args = ()
            budget.suppressed = 0
        return True


class _Budget:
    """Of one kind of line: how many are left, when that was true, how many found none."""

    def __init__(self, left: float, at: float) -> None:
        self.left = left
        self.at = at
        self.suppressed = 0

    def take(self, burst: int, seconds: float, now: float) -> bool:
        self.left = min(burst, self.left + (now - self.at) / seconds)
        self.at = now
        if self.left < 1:
            self.suppressed += 1
            return False
        self.left -= 1
        return True


def set_up(level: str, format: str) -> None:
    """Send what is logged to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormat() if format == "json" else TextFormat())
    handler.addFilter(LineLimit())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("orchy").setLevel(level.upper())
