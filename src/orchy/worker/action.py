"""A function, what the server is to know of it, and how it is called."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import attrs
import trio

from orchy.flow.definition import ActionDefinition, RetryPolicy


@attrs.frozen
class ActionContext:
    """What a function may want to know beside its data: it is the second argument of one that takes two."""

    workflow: str
    flow_id: str
    action_id: int
    action_name: str
    attempt: int
    timeout_seconds: int


class ActionFailed(Exception):
    """Raised by a function, it fails the attempt with just this text."""


@attrs.frozen
class RegisteredAction:
    """One function under one name. `slots` is how many of it run at the same time: threads, or async tasks."""

    function: Callable[..., Any]
    definition: ActionDefinition
    poll_interval_seconds: float
    batch_size: int
    slots: int
    is_async: bool
    wants_context: bool
    limiter: trio.CapacityLimiter

    async def call(self, data: dict[str, Any], context: ActionContext) -> Any:
        """The function's own result. Raises what it raises."""
        args = (data, context) if self.wants_context else (data,)
        if self.is_async:
            return await self.function(*args)
        # Abandoned on a stop that can't wait longer: a thread can't be ended.
        return await trio.to_thread.run_sync(self.function, *args, abandon_on_cancel=True, limiter=self.limiter)


def register(
    function: Callable[..., Any],
    name: str,
    *,
    retry_count: int,
    retry_policy: str,
    retry_after_seconds: float,
    timeout_seconds: float,
    poll_interval_seconds: float,
    batch_size: int,
    threads: int,
) -> RegisteredAction:
    """Check what was given, so that a mistake shows when the worker is written. Raises ValueError, TypeError."""
    if not callable(function):
        raise TypeError(f"the action {name!r} needs a function")
    if not name or not name.isprintable():
        raise ValueError("an action needs a name that can be printed")
    if min(threads, batch_size) < 1:
        raise ValueError(f"action {name!r}: threads and batch_size must be at least 1")
    if min(retry_count, retry_after_seconds, timeout_seconds) < 0 or poll_interval_seconds <= 0:
        raise ValueError(f"action {name!r}: retries and times can't be negative, nor the poll interval 0")
    parameters = [
        parameter
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    definition = ActionDefinition(
        name, retry_count, retry_after_seconds, RetryPolicy(retry_policy.upper()), timeout_seconds
    )
    return RegisteredAction(
        function,
        definition,
        poll_interval_seconds,
        batch_size,
        threads,
        inspect.iscoroutinefunction(function),
        len(parameters) >= 2,
        trio.CapacityLimiter(threads),
    )
