"""Unexpected exceptions: each is logged once with what it was about, counted, and stopped.

They are caught at the boundaries listed in `Where`: of one flow, one timer, or one round of a loop that must go on.
Exceptions raised on purpose, those of `orchy.errors`, are handled by those loops before they get here.
"""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum

#: How many (boundary, subject, type of exception) are remembered as logged.
REMEMBERED_MAX = 1_000

log = logging.getLogger(__name__)


class Where(StrEnum):
    """The boundary at which an exception was caught. Labels of a metric, so there are few."""

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
_logged: OrderedDict[tuple[Where, str, type[BaseException]], None] = OrderedDict()

#: Called with each of them: by the simulation, in which there must be none.
watchers: list[Callable[[BaseException], None]] = []


def note(where: Where, about: object, error: BaseException) -> None:
    """Count an exception and log it, with its traceback the first time."""
    _counts[where] += 1
    key = (where, str(about)[:200], type(error))
    is_new = key not in _logged
    _logged[key] = None
    _logged.move_to_end(key)
    if len(_logged) > REMEMBERED_MAX:
        _logged.popitem(last=False)
    if is_new:
        log.error("an error that nobody foresaw (%s): %s", where, about, exc_info=error)
    else:
        log.debug("again (%s): %s: %r", where, about, error)
    for watcher in watchers:
        watcher(error)


@contextmanager
def survive(where: Where, about: object) -> Iterator[None]:
    """An exception in the body ends the body and nothing else."""
    try:
        yield
    except Exception as error:
        note(where, about, error)


def counts() -> Mapping[str, int]:
    """How many there were in this process, by boundary."""
    return {where: _counts[where] for where in Where}
