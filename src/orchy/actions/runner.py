"""What does deferred work: a port with one runner for each kind."""

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
    """Why there is none, in a sentence for the flow's error."""

    message: str


class Runner(Protocol):
    """Does one kind of deferred work."""

    async def run(self, payload: JSON, context: Mapping[str, JSON], workflow: str) -> Done | NotDone:
        """Do it over the flow's context, which is not to be changed. Raises OrchyError to be asked again later.

        Whoever lets work wait takes turns by `workflow`, so that none holds up the others.
        """
        ...
