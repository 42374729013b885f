"""Every exception that Orchy raises on purpose, in one tree.

Each class says whose fault it is and whether anything was changed. Adapters translate once, at their edge: the store
turns Redis errors into `StoreError`s, REST turns these classes into status codes, and gRPC into its own. A bug of ours
is an `AssertionError`, never one of these.

::

    OrchyError
    ├── InvalidInput            the caller's; nothing changed                  400
    │   └── TooLarge            the caller's; over a limit, nothing changed    413
    ├── NotFound                the caller's; nothing changed                  404
    ├── WrongState              the caller's; nothing changed                  409
    │   └── LimitReached        the caller's; nothing changed                  409
    ├── Overloaded              ours for now; nothing changed: try again later  503
    ├── FlowFault               ours; nothing changed                         500
    ├── StartupError            the operator's; the server did not start       exit 1
    │   └── ConfigurationError  the operator's; command line or settings       exit 2
    └── StoreError              the store's or the network's                   503
        ├── StoreUnavailable    nothing was changed: safe to try again
        ├── StoreRefused        the store said no (memory, rights, read-only); nothing was changed
        ├── DefinitionMissing   a flow's definition is not in the store: try again when it is
        ├── OutcomeUnknown      may or may not have been applied: check before trying again
        └── VersionConflict     another caller moved the flow first; nothing was changed
            └── TimerMoved      a timer was moved into the future; nothing was changed
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs


@attrs.frozen
class Problem:
    """One thing that is wrong with an input.

    `pointer` is a JSON pointer (RFC 6901), "" for the whole document. `line` and `column` count from 1, and
    are known if the input was JSON text.
    """

    message: str
    pointer: str = ""
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        place = self.pointer
        if self.line is not None:
            place = f"{place} (line {self.line}, column {self.column})".strip()
        return f"{place}: {self.message}" if place else self.message


class OrchyError(Exception):
    """The root of all that Orchy raises on purpose. The text is one plain sentence."""


class InvalidInput(OrchyError):
    """What the caller sent is wrong; `problems` lists all mistakes. Nothing was changed."""

    def __init__(self, message: str, problems: Sequence[Problem] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)


class TooLarge(InvalidInput):
    """What the caller sent is over a limit. Nothing was changed."""


class NotFound(OrchyError):
    """What the caller names does not exist. Nothing was changed."""


class WrongState(OrchyError):
    """What the caller names is in a state that does not allow this; `problems` say which. Nothing was changed."""

    def __init__(self, message: str, problems: Sequence[Problem] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)


class LimitReached(WrongState):
    """What the caller names already has as many of these as it may have. Nothing was changed."""


class Overloaded(OrchyError):
    """This node has too much to do. Nothing was changed, so the same call may be made again."""


class FlowFault(OrchyError):
    """A bug in Orchy that affects one flow; the text says which one. Nothing was changed."""


class StartupError(OrchyError):
    """The server can't start; the text says what is wrong, where, and what to do, in one line. Exit code 1."""


class ConfigurationError(StartupError):
    """A flag, an environment variable or the configuration file is wrong. Exit code 2."""


class StoreError(OrchyError):
    """The store, or the way to it, failed."""


class StoreUnavailable(StoreError):
    """The store was not reached. Nothing was changed, so the same call may be made again."""


class StoreRefused(StoreError):
    """The store answered with a refusal: out of memory, read-only, no permission. Nothing was changed."""


class DefinitionMissing(StoreError):
    """The store has a flow, but not its definition. Nothing was changed.

    The same call may be made again, and nothing of the flow may be dropped: the definition may come back.
    """


class OutcomeUnknown(StoreError):
    """A write was sent and its answer was lost: it may have been applied. Check before making it again."""


class VersionConflict(StoreError):
    """The flow has another version than the commit expects. Nothing was changed."""


class TimerMoved(VersionConflict):
    """Timers that the commit handles are no longer due, as a worker was given more time. Nothing was changed.

    `timers` are their keys, as text.
    """

    def __init__(self, message: str, timers: Sequence[str]) -> None:
        super().__init__(message)
        self.timers = frozenset(timers)
