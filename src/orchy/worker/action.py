"""A registered function: its definition for the server, and how one attempt of it runs."""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import attrs
import trio

from orchy.errors import InvalidInput
from orchy.flow.definition import PROTOCOL_NAMES, ActionDefinition, RetryPolicy
from orchy.rpc.generated import action_service_pb2 as pb
from orchy.rpc.grpc.values import fill_map, json_of_map

#: The most characters of an error's text that are sent.
ERROR_CHARACTERS_MAX = 10_000

log = logging.getLogger("orchy.worker")


#: Which attempt: flow id, action id, number.
Attempt = tuple[str, int, int]
#: Asks a server for more time for an attempt; the event is set when the server says that it is over.
Extend = Callable[[Attempt, trio.Event], None]


def _do_nothing() -> None:
    """Used where there is no server to ask for more time."""


@attrs.frozen
class ActionContext:
    """What a function may want to know beside its data: the second argument of one that takes two.

    `flow_id` and `action_id` together are the same for all attempts of one action in one flow: a good key for whatever
    must not happen twice.

    * `workflow`: the name of the workflow.
    * `flow_id`: the id of the flow.
    * `action_id`: the number of the action in the workflow.
    * `action_name`: the name of the action.
    * `attempt`: the number of this attempt, from 1.
    * `timeout_seconds`: how long this attempt may take from when it was handed out, in whole seconds, rounded up.
    """

    workflow: str
    flow_id: str
    action_id: int
    action_name: str
    attempt: int
    timeout_seconds: int
    _ask: Callable[[], None] = attrs.field(default=_do_nothing, repr=False, eq=False)
    _over: trio.Event = attrs.field(factory=trio.Event, repr=False, eq=False)

    def extend(self) -> None:
        """Say that this attempt is still being worked on: it has its whole `timeout_seconds` again, from now.

        It may be called from any thread, as often as you like, and does not wait: what the server answers shows in
        `over`, a moment later. It needs servers that have streams for workers; with others it does nothing.
        """
        self._ask()

    @property
    def over(self) -> bool:
        """True when a server has answered `extend` by: too late. The result of this attempt will not count: give up.

        It stays False if `extend` was not called, and while no server can be reached.
        """
        return self._over.is_set()


class ActionFailed(Exception):
    """Raise it in a function to fail the attempt, with just its text as the reason.

    Any other exception fails the attempt too, with its type before its text, and is logged with its traceback.

        def charge(data: dict) -> dict:
            if data["amount"] <= 0:
                raise ActionFailed("the amount must be more than 0")
            return {"charged": data["amount"]}
    """


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

    def message(self) -> pb.ActionDefinition:
        """The definition for the server, in whole seconds: fractions are rounded up."""
        message = pb.ActionDefinition()
        for name, protocol_name in PROTOCOL_NAMES.items():
            value = getattr(self.definition, name)
            setattr(message, protocol_name, value if isinstance(value, str) else math.ceil(value))
        return message

    async def run(self, action: pb.Action, worker_id: str, extend: Extend | None = None) -> pb.ActionResult:
        """The result of one attempt; whatever the function raises is a FAIL."""
        result = pb.ActionResult(
            workflowName=action.workflowName,
            actionName=action.actionName,
            flowId=action.flowId,
            actionId=action.actionId,
            retryCount=action.retryCount,
            workerId=worker_id,
        )
        try:
            output = await self._call(action, extend)
            if output is None:
                output = {}
            if not isinstance(output, dict):
                raise ActionFailed(f"the function answered {type(output).__name__}, not a dict")
            fill_map(result.data, output)
        except ActionFailed as error:
            fail(result, str(error) or "the function gave no reason")
        except InvalidInput as error:
            fail(result, f"the function's data or answer can't travel: {error}")
        except (Exception, SystemExit) as error:  # a function that calls sys.exit() ends itself, not the worker
            log.warning("%s failed in flow %s", self.definition.name, action.flowId, exc_info=True)
            fail(result, _text_of(error))
        return result

    async def _call(self, action: pb.Action, extend: Extend | None) -> Any:
        args: tuple[Any, ...] = (json_of_map(action.data),)
        if self.wants_context:
            args += (_context_of(action, extend),)
        if self.is_async:
            # A server may hand out more than there are slots for a moment: still no more than `slots` run.
            try:
                self.limiter.acquire_nowait()
            except trio.WouldBlock:
                await self.limiter.acquire()
            try:
                return await self.function(*args)
            finally:
                self.limiter.release()
        # Abandoned on a stop that can't wait longer: a thread can't be ended.
        return await trio.to_thread.run_sync(self.function, *args, abandon_on_cancel=True, limiter=self.limiter)


def _context_of(action: pb.Action, extend: Extend | None) -> ActionContext:
    over = trio.Event()
    attempt = (action.flowId, action.actionId, action.retryCount)
    ask = _do_nothing
    if extend is not None:
        ask = partial(_ask, trio.lowlevel.current_trio_token(), extend, attempt, over)
    return ActionContext(
        action.workflowName,
        action.flowId,
        action.actionId,
        action.actionName,
        action.retryCount,
        action.timeoutSeconds,
        ask=ask,
        over=over,
    )


def _ask(token: trio.lowlevel.TrioToken, extend: Extend, attempt: Attempt, over: trio.Event) -> None:
    with suppress(trio.RunFinishedError):  # the worker has ended without this one
        token.run_sync_soon(extend, attempt, over, idempotent=True)


def fail(result: pb.ActionResult, text: str) -> None:
    """Turn a result into a FAIL."""
    result.data.clear()
    result.status = pb.ActionResult.FAIL
    result.error = text[:ERROR_CHARACTERS_MAX].encode("utf-8", "replace").decode()


def _text_of(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:  # its __str__ is broken; the type says something
        log.debug("an exception's text can't be had", exc_info=True)
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


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
    """Check the arguments, so that a mistake shows when the worker is written. Raises ValueError, TypeError."""
    if not callable(function):
        raise TypeError(f"the action {name!r} needs a function")
    if not name or not name.isprintable():
        raise ValueError("an action needs a name that can be printed")
    if min(threads, batch_size) < 1:
        raise ValueError(f"action {name!r}: threads and batch_size must be at least 1")
    if min(retry_count, retry_after_seconds, timeout_seconds) < 0 or poll_interval_seconds <= 0:
        raise ValueError(f"action {name!r}: retries and times can't be negative, nor the poll interval 0")
    policies = [policy.value for policy in RetryPolicy]
    if retry_policy.upper() not in policies:
        raise ValueError(f"action {name!r}: the retry policy {retry_policy!r} is none of {', '.join(policies)}")
    parameters = [
        parameter
        for parameter in _signature_of(function).parameters.values()
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        and (parameter.default is parameter.empty or parameter.annotation in (ActionContext, "ActionContext"))
    ]
    _check_call(function, name, wants_context=len(parameters) >= 2)
    definition = ActionDefinition(
        name, retry_count, retry_after_seconds, RetryPolicy(retry_policy.upper()), timeout_seconds
    )
    return RegisteredAction(
        function,
        definition,
        poll_interval_seconds,
        batch_size,
        threads,
        inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__),
        len(parameters) >= 2,
        trio.CapacityLimiter(threads),
    )


def _signature_of(function: Callable[..., Any]) -> inspect.Signature:
    """The signature of a function; one without (some that are written in C) is called with its data."""
    try:
        return inspect.signature(function)
    except ValueError:
        return inspect.Signature([inspect.Parameter("data", inspect.Parameter.POSITIONAL_ONLY)])


def _check_call(function: Callable[..., Any], name: str, *, wants_context: bool) -> None:
    """Check that a function can be called with what it will be given. Raises TypeError."""
    signature = _signature_of(function)
    try:
        signature.bind(*[None] * (2 if wants_context else 1))
    except TypeError as error:
        called = getattr(function, "__name__", type(function).__name__)
        raise TypeError(
            f"the function of the action {name!r} can't be called with its data ({error}): write def {called}(data),"
            f" or def {called}(data, context); this one is {called}{signature}"
        ) from None
