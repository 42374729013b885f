"""Log lines that are said once, and again only when there is something else to say."""

from __future__ import annotations

import logging

log = logging.getLogger("orchy.worker")


class Notice:
    """What is wrong with one thing. A trouble that goes on for hours is one line, not one for each try."""

    def __init__(self) -> None:
        self._said = ""

    def warn(self, text: str) -> None:
        """Say it, unless it was the last thing said."""
        if text != self._said:
            log.warning("%s", text)
        self._said = text

    def clear(self, text: str) -> None:
        """It works again: say so, if there was a warning."""
        if self._said:
            log.info("%s", text)
        self._said = ""
