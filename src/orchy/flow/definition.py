"""What a user defines: workflows and user actions. Frozen values; what is wrong with one is `validation`'s to say.

A `Workflow` here is sound: it came out of `validation.parse_workflow`. So the rest of the package relies
on unique ids, edges that lead somewhere, no circle, and every action reachable from the root.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import attrs

#: A JSON value: None, bool, int, float, str, list or dict of them. `Any` only because JSON enters here.
JSON = Any

DEFAULT_OUTCOME = "default"
DEFAULT_TIMEOUT_SECONDS = 3600


class ActionType(StrEnum):
    """Who runs an action: a worker process, or the server itself."""

    USER = "user"
    SYSTEM = "system"


class JoinMode(StrEnum):
    """When an action with several edges into it runs: once all are settled, or on the first arrival."""

    ALL = "all"
    ANY = "any"


class OnEnd(StrEnum):
    """What becomes of an execution that ended: kept until its retention is over, or removed at once."""

    NOOP = "NOOP"
    DELETE = "DELETE"


@attrs.frozen
class Action:
    """One node of the graph.

    `next` maps an outcome to the ids that follow. `settings` holds the fields that only this system
    action knows (`expression`, `delaySeconds`, ...), by their JSON names.
    """

    id: int
    type: ActionType
    name: str
    parameters: Mapping[str, JSON] = attrs.field(factory=dict)
    next: Mapping[str, tuple[int, ...]] = attrs.field(factory=dict)
    join: JoinMode = JoinMode.ALL
    settings: Mapping[str, JSON] = attrs.field(factory=dict)


@attrs.frozen
class Workflow:
    """A definition in one version. `source` is the JSON object as it was saved; `version` is 0 before that."""

    name: str
    root: int
    actions: Mapping[int, Action]
    on_success: OnEnd = OnEnd.NOOP
    on_failure: OnEnd = OnEnd.NOOP
    version: int = 0
    source: Mapping[str, JSON] = attrs.field(factory=dict)


class RetryPolicy(StrEnum):
    """How long to wait between attempts: always the same, or longer each time."""

    FIXED = "FIXED"
    BACKOFF = "BACKOFF"


@attrs.frozen
class ActionDefinition:
    """What a worker says of a user action when it registers it.

    `retry_count` is how many times it may run in all (0 and 1: once); `timeout_seconds` 0 means the
    server's default. Both durations may have fractions.
    """

    name: str
    retry_count: int = 1
    retry_after_seconds: float = 0
    retry_policy: RetryPolicy = RetryPolicy.FIXED
    timeout_seconds: float = 0
