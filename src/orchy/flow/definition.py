"""What users define: workflows and user actions, as frozen values. Checking them is the task of `validation`.

A `Workflow` is always valid, as it comes from `validation.parse_workflow`: the rest of the package relies on unique
ids, edges that lead to existing actions, no cycle, and every action being reachable from the root.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

import attrs
from msgspec import Meta, Struct

from orchy.flow.validation.names import NAME_CHARS_MAX

#: A JSON value: None, bool, int, float, str, list or dict of them. `Any` only because JSON enters here.
JSON = Any

DEFAULT_OUTCOME = "default"
DEFAULT_TIMEOUT_SECONDS = 3600
RETRY_COUNT_MAX = 10_000
#: A year.
RETRY_AFTER_SECONDS_MAX = 31_536_000
TIMEOUT_SECONDS_MAX = 31_536_000


class ActionType(StrEnum):
    """Who runs an action: a worker process, or the server itself."""

    USER = "user"
    SYSTEM = "system"


class JoinMode(StrEnum):
    """When an action with several incoming edges runs: once all are settled, or when the first is taken."""

    ALL = "all"
    ANY = "any"


class OnEnd(StrEnum):
    """What happens to a flow that has ended: it is kept until its retention is over, or removed at once."""

    NOOP = "NOOP"
    DELETE = "DELETE"


@attrs.frozen
class Action:
    """One node of the graph.

    `next` maps an outcome to the ids that follow. `settings` holds the fields that are specific to a kind of system
    action (`expression`, `delaySeconds`, ...), by their JSON names.
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
    """One version of a definition. `source` is the JSON object as it was saved; `version` is 0 until then."""

    name: str
    root: int
    actions: Mapping[int, Action]
    on_success: OnEnd = OnEnd.NOOP
    on_failure: OnEnd = OnEnd.NOOP
    version: int = 0
    source: Mapping[str, JSON] = attrs.field(factory=dict)


class RetryPolicy(StrEnum):
    """How long to wait between attempts: always the same time, or longer after each."""

    FIXED = "FIXED"
    BACKOFF = "BACKOFF"


class ActionDefinition(Struct, frozen=True):
    """What a worker says of a user action when it registers it.

    `retry_count` is how many times it may run in all (0 and 1: once); `timeout_seconds` 0 means the
    server's default. Both durations may have fractions.

    The one list of these fields: validation reads by it, and it is the JSON that REST takes and answers and the store
    keeps. The types say what validation allows; an instance that is made in Python is not checked.
    """

    name: Annotated[str, Meta(min_length=1, max_length=NAME_CHARS_MAX)]
    retry_count: Annotated[int, Meta(ge=0, le=RETRY_COUNT_MAX)] = 1
    retry_after_seconds: Annotated[float, Meta(ge=0, le=RETRY_AFTER_SECONDS_MAX)] = 0
    retry_policy: RetryPolicy = RetryPolicy.FIXED
    timeout_seconds: Annotated[float, Meta(ge=0, le=TIMEOUT_SECONDS_MAX)] = 0


def _camel_case(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(map(str.capitalize, rest))


#: The fields of an ActionDefinition by their names in the workers' protocol.
PROTOCOL_NAMES = {name: _camel_case(name) for name in ActionDefinition.__struct_fields__}
