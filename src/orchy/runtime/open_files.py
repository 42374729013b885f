"""How many files this process may have open, and which share of them the connections at one door may take.

A door that takes all of them takes them from the store, the gossip and the other door too.
"""

from __future__ import annotations

import resource
from contextlib import suppress

#: For the store, the gossip, scripts, listeners and what Python itself opens.
RESERVED_FILES = 64
#: The doors: REST, and the workers'.
LISTENERS = 2
#: A door gets so many, however few files may be open.
SHARE_MIN = 16


def raise_limit() -> None:
    """Let this process have as many files open as the system allows it; as it was, where that is refused."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def share_of_listener(most: int) -> int:
    """How many connections one door may have now: at most `most`. The limit is read anew each time: about 0.3 us."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return most
    return min(most, max(SHARE_MIN, (files - RESERVED_FILES) // LISTENERS))
