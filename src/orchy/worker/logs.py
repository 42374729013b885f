"""Log lines that are not repeated while nothing changes, and a handler for where logging was not set up."""

from __future__ import annotations

import logging
import sys

log = logging.getLogger("orchy.worker")


class DedupLog:
    """Warnings about one thing: a trouble that lasts for hours is one line, not one for each try."""

    def __init__(self) -> None:
        self._said = ""

    def warn(self, text: str) -> None:
        """Log a warning, unless it is the same as the last one."""
        if text != self._said:
            log.warning("%s", text)
        self._said = text

    def recovered(self, text: str) -> None:
        """It works again: log that if there was a warning."""
        if self._said:
            log.info("%s", text)
        self._said = ""


def set_up_logging() -> None:
    """Log to the standard error, from level info on, unless logging was set up."""
    if log.hasHandlers():
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    if log.level == logging.NOTSET:
        log.setLevel(logging.INFO)
