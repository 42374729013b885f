"""Starts in batches: many flows asked for at once, each with an outcome of its own.

A batch is no transaction: some flows may be started and others not. Commits leave side by side, so that the store's
client sends many of them in one write; a workflow's newest version is read once for the whole batch. When the store
is not reached any more, what has not begun is refused at once, so that a batch does not wait for one timeout after
the other.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from typing import Any, TypeVar

import attrs

from orchy.engine.catalog import Catalog
from orchy.engine.orchestrator import Orchestrator
from orchy.engine.starting import Begun, Wanted
from orchy.errors import OrchyError, OutcomeUnknown, StoreUnavailable
from orchy.flow.definition import JSON
from orchy.runtime.gather import gather

#: The most flows that one batch starts.
STARTS_MAX = 1_000
#: How many definitions are looked up side by side.
LOOKUPS_AT_ONCE = 32

_K = TypeVar("_K", bound=Hashable)
_R = TypeVar("_R")


@attrs.frozen
class Start:
    """A flow that is wanted. `version` None: the newest one; `flow_id` None: an id that nobody has."""

    name: str
    input: JSON
    version: int | None = None
    flow_id: str | None = None


async def start_all(orchestrator: Orchestrator, catalog: Catalog, starts: Sequence[Start]) -> list[Begun | OrchyError]:
    """Start flows; each one, or why it was not started, in their order.

    Starts of one `flow_id` are made one after the other in their order, so the first that can be is the one that
    counts; the others are answered as repetitions of it, or refused as they want another flow.
    """
    assert len(starts) <= STARTS_MAX, "the caller keeps the limit"
    attempts = _Attempts()
    newest = await attempts.of_each(catalog.newest_version, (start.name for start in starts))
    wanted = [(start.name, _version(start, newest[start.name])) for start in starts]
    graphs = await attempts.of_each(
        lambda one: catalog.graph(*one), ((name, version) for name, version in wanted if isinstance(version, int))
    )
    outcomes: dict[int, Begun | OrchyError] = {}
    ready: dict[int, Wanted] = {}
    for index, (start, (name, version)) in enumerate(zip(starts, wanted, strict=True)):
        graph = graphs[name, version] if isinstance(version, int) else version
        if isinstance(graph, OrchyError):
            outcomes[index] = graph
        else:
            ready[index] = Wanted(graph, start.input, start.flow_id, start.version is not None)
    started = await orchestrator.start_all(list(ready.values()))
    outcomes.update(zip(ready, started, strict=True))
    return [outcomes[index] for index in range(len(starts))]


def _version(start: Start, newest: int | OrchyError) -> int | OrchyError:
    """No version of a workflow that is not there, or was deleted, can be started."""
    return newest if isinstance(newest, OrchyError) or start.version is None else start.version


class _Attempts:
    """Calls that may fail each for itself, until the store turns out not to be reached."""

    def __init__(self) -> None:
        self._unreached = False

    async def outcome(self, call: Callable[..., Awaitable[_R]], *args: Any) -> _R | OrchyError:
        """What came of a call; it is not made once the store was not reached."""
        if self._unreached:
            return StoreUnavailable("not begun, as the store was not reached for another start of the batch")
        try:
            return await call(*args)
        except (StoreUnavailable, OutcomeUnknown) as error:
            self._unreached = True
            return error
        except OrchyError as error:
            return error

    async def of_each(self, call: Callable[[_K], Awaitable[_R]], keys: Iterable[_K]) -> dict[_K, _R | OrchyError]:
        """What came of the call with each key; equal keys are asked for once."""
        keys = list(dict.fromkeys(keys))
        outcomes = await gather(lambda key: self.outcome(call, key), keys, LOOKUPS_AT_ONCE)
        return dict(zip(keys, outcomes, strict=True))
