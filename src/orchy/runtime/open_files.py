"""The limit on open files of this process, and how much of it the connections to one listener may use.

A listener that used it up would leave none for the store, the gossip and the other listener.
"""

from __future__ import annotations

import resource
from contextlib import suppress

#: For the store, the gossip, scripts, listening sockets and what Python itself opens.
RESERVED_FILES = 64
#: REST, and the workers' gRPC.
LISTENERS = 2
#: A listener's share, however low the limit is.
SHARE_MIN = 16


def raise_limit() -> None:
    """Raise this process's soft limit to the hard limit, if the system allows it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def share_of_listener(most: int) -> int:
    """How many connections one listener may have now: at most `most`. Reads the limit each time: about 0.3 us."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return most
    return min(most, max(SHARE_MIN, (files - RESERVED_FILES) // LISTENERS))
