"""How often a user action is attempted, and how long to wait in between. Pure arithmetic."""

from __future__ import annotations

from typing import assert_never

from orchy.flow.definition import ActionDefinition, RetryPolicy


def attempts_in_all(definition: ActionDefinition) -> int:
    """How many times the action may run: `retry_count`, at least once."""
    return max(1, definition.retry_count)


def seconds_before_next(definition: ActionDefinition, attempt: int) -> float | None:
    """How long to wait after `attempt` (from 1) has failed; None if it was the last."""
    if attempt >= attempts_in_all(definition):
        return None
    match definition.retry_policy:
        case RetryPolicy.FIXED:
            return definition.retry_after_seconds
        case RetryPolicy.BACKOFF:
            return definition.retry_after_seconds * (attempt + 1)
        case never:
            assert_never(never)
