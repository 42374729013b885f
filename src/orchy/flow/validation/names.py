"""Names of workflows, actions and events."""

from __future__ import annotations

import unicodedata

NAME_CHARS_MAX = 256


def name_problem(name: str) -> str | None:
    """What is wrong with a name, completing a sentence that begins with what it names; None if it is valid."""
    if not name.strip():
        return "must not be empty"
    if len(name) > NAME_CHARS_MAX:
        return f"must not be longer than {NAME_CHARS_MAX} characters"
    if any(unicodedata.category(char) in ("Cc", "Zl", "Zp") for char in name):
        return "must not have control characters"
    return None
