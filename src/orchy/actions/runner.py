"""The port for deferred work, with one runner for each kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import attrs

from orchy.flow.definition import JSON


@attrs.frozen
class Done:
    """The work's output."""

    output: JSON


@attrs.frozen
class NotDone:
    """Why there is no output, in a sentence for the flow's error."""

    message: str


class Runner(Protocol):
    """Does one kind of deferred work."""

    async def run(self, payload: JSON, context: Mapping[str, JSON], workflow: str) -> Done | NotDone:
        """Do the work over the flow's context, which must not be changed. Raises OrchyError to be called again later.

        Runners that queue work take turns by `workflow`, so that no workflow holds up the others.
        """
        ...
