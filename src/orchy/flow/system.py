"""The port of system actions, and the answers that they may give.

A system action decides from its definition and the context what is to happen; it does nothing itself. The
implementations are in `orchy.actions`, one in each file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol, TypeAlias

import attrs

from orchy.flow.budget import Meter
from orchy.flow.definition import DEFAULT_OUTCOME, JSON, Action


@attrs.frozen
class Finish:
    """Done: take the edges of `outcome`. `missing` has the paths that found nothing."""

    outcome: str = DEFAULT_OUTCOME
    output: JSON = None
    missing: tuple[str, ...] = ()


@attrs.frozen
class Fail:
    """Fail the flow with this message."""

    message: str


@attrs.frozen
class Sleep:
    """Finish with the default outcome after `seconds` (> 0)."""

    seconds: float


@attrs.frozen
class Await:
    """Finish by the event (its name is the outcome), or by default after `timeout_seconds` (None: never)."""

    event: str
    timeout_seconds: float | None


@attrs.frozen
class Defer:
    """Finish with the output of the runner of `kind`, given `payload` and the context."""

    kind: str
    payload: JSON


Answer: TypeAlias = Finish | Fail | Sleep | Await | Defer


class Context(Protocol):
    """What an expression sees as `$`: `input`, and for each finished action its id with `output`.

    `meter` counts what is evaluated in it.
    """

    meter: Meter

    def as_json(self) -> dict[str, JSON]:
        """The whole context as a new dict. Its values are shared with the flow and must not be changed."""
        ...

    def has(self, key: str) -> bool:
        """Whether the context has this top-level key."""
        ...

    def get(self, key: str) -> JSON:
        """The value of a top-level key; None if there is none."""
        ...


@attrs.frozen
class Field:
    """A JSON field that is specific to a system action. `types` are Python types of the parsed value."""

    types: tuple[type, ...]
    required: bool = False


@attrs.frozen
class FieldProblem:
    """What a system action finds wrong with its definition; `field` is the JSON name, "" for the whole definition."""

    field: str
    message: str


class SystemAction(Protocol):
    """A kind of system action. Stateless."""

    name: str
    fields: Mapping[str, Field]

    def problems(self, action: Action) -> Iterable[FieldProblem]:
        """What is wrong with a definition whose fields already have the right types."""
        ...

    def start(self, action: Action, context: Context) -> Answer:
        """What is to happen when a flow reaches the action."""
        ...
