"""Log lines that are said once, and again only when there is something else to say; and where they are to be seen."""

from __future__ import annotations

import logging
import sys

log = logging.getLogger("orchy.worker")


class DedupLog:
    """What is wrong with one thing. A trouble that goes on for hours is one line, not one for each try."""

    def __init__(self) -> None:
        self._said = ""

    def warn(self, text: str) -> None:
        """Say it, unless it was the last thing said."""
        if text != self._said:
            log.warning("%s", text)
        self._said = text

    def recovered(self, text: str) -> None:
        """It works again: say so, if there was a warning."""
        if self._said:
            log.info("%s", text)
        self._said = ""


def set_up_logging() -> None:
    """Show what workers log on the standard error, from level info on, if nothing says what is to become of it."""
    if log.hasHandlers():
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    if log.level == logging.NOTSET:
        log.setLevel(logging.INFO)
