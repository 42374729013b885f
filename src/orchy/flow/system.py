"""What a system action is to the machine: a port, and the answers that it may give.

A system action decides, from its definition and the context, what is to happen; it does nothing
itself. `orchy.actions` has them, one a file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol, TypeAlias

import attrs

from orchy.flow.budget import Meter
from orchy.flow.definition import DEFAULT_OUTCOME, JSON, Action


@attrs.frozen
class Finish:
    """Done: take the edges of `outcome`. `missing` are the paths on the way that found nothing."""

    outcome: str = DEFAULT_OUTCOME
    output: JSON = None
    missing: tuple[str, ...] = ()


@attrs.frozen
class Fail:
    """The flow fails with this sentence."""

    message: str


@attrs.frozen
class Sleep:
    """Finish with the default outcome after `seconds` (> 0)."""

    seconds: float


@attrs.frozen
class Await:
    """Finish by the event's name when it comes, or by the default after `timeout_seconds` (None: never)."""

    event: str
    timeout_seconds: float | None


@attrs.frozen
class Defer:
    """Finish with what the runner of `kind` makes of `payload` and the context."""

    kind: str
    payload: JSON


Answer: TypeAlias = Finish | Fail | Sleep | Await | Defer


class Context(Protocol):
    """What an expression sees as `$`: `input`, and for each finished action its id with `output`.

    `meter` counts what is evaluated in it.
    """

    meter: Meter

    def as_json(self) -> dict[str, JSON]:
        """The whole of it, as a new dict whose values are shared with the flow: don't change them."""
        ...

    def has(self, key: str) -> bool:
        """Whether there is such a top-level key."""
        ...

    def get(self, key: str) -> JSON:
        """The value of one top-level key, None where there is none."""
        ...


@attrs.frozen
class Field:
    """A JSON field that a system action has of its own. `types` are Python types of the parsed value."""

    types: tuple[type, ...]
    required: bool = False


@attrs.frozen
class FieldProblem:
    """What a system action finds wrong with its definition; `field` is the JSON name, "" for the whole."""

    field: str
    message: str


class SystemAction(Protocol):
    """A kind of system action. Its instances hold nothing."""

    name: str
    fields: Mapping[str, Field]

    def problems(self, action: Action) -> Iterable[FieldProblem]:
        """What is wrong with a definition whose fields already have the right types."""
        ...

    def start(self, action: Action, context: Context) -> Answer:
        """What is to happen when a flow reaches the action."""
        ...
