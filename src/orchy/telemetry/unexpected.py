"""Exceptions that nobody foresaw: each is said once with what it was about, counted, and goes no further.

Where one is caught stands in `Where`: at the border of one flow, one timer, or one round of a loop that has to go on.
What is raised on purpose, from `orchy.errors`, is no such exception where a loop handles it before.
"""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum

#: For how many (place, subject, kind of exception) it is known that they were said.
SAID_MAX = 1_000

log = logging.getLogger(__name__)


class Where(StrEnum):
    """Whose border it was; labels of the metric, so there are few."""

    FLOW = "flow"
    START = "start"
    COMMIT = "commit"
    TIMER = "timer"
    TIMER_LOOP = "timer loop"
    RETENTION = "retention"
    LEASES = "leases"
    MEMBERS = "members"
    ADOPTION = "adoption"
    REGISTRY = "registry"
    WAKE_UP = "wake-up"
    STREAM = "stream"


_counts: Counter[Where] = Counter()
_said: OrderedDict[tuple[Where, str, type[BaseException]], None] = OrderedDict()


#: Who else wants to know of each: a simulation, in which there may be none.
watchers: list[Callable[[BaseException], None]] = []


def note(where: Where, about: object, error: BaseException) -> None:
    """Say it, with its traceback the first time, and count it."""
    _counts[where] += 1
    key = (where, str(about)[:200], type(error))
    is_new = key not in _said
    _said[key] = None
    _said.move_to_end(key)
    if len(_said) > SAID_MAX:
        _said.popitem(last=False)
    if is_new:
        log.error("an error that nobody foresaw (%s): %s", where, about, exc_info=error)
    else:
        log.debug("again (%s): %s: %r", where, about, error)
    for watcher in watchers:
        watcher(error)


@contextmanager
def survive(where: Where, about: object) -> Iterator[None]:
    """Let an exception of the body end the body and nothing else."""
    try:
        yield
    except Exception as error:
        note(where, about, error)


def counts() -> Mapping[str, int]:
    """How many there were in this process, of each place."""
    return {where: _counts[where] for where in Where}
