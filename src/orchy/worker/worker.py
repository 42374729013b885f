"""The worker: polls every live server for each of its actions, runs the functions, pushes the results.

It never takes more than it has slots for. A result is pushed until some server takes it: to another one at each try.
A stop lets go of the polls, finishes what is held, pushes the results, and only then closes; bounded by a grace.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Callable
from typing import Any, TypeVar

import trio

from orchy.errors import InvalidInput
from orchy.rpc.channel import Channel, ConnectionLost
from orchy.rpc.framing import Code, Status
from orchy.rpc.generated import action_service_pb2 as pb
from orchy.rpc.values import fill_value, json_of_map
from orchy.worker.action import ActionContext, ActionFailed, RegisteredAction, register
from orchy.worker.servers import Servers

WAIT_SECONDS = 10.0
#: How much longer than it was asked to wait a server may take to answer a poll.
ANSWER_SECONDS = 5.0
PUSH_SECONDS = 10.0
PUSH_AGAIN_MIN_SECONDS = 0.05
PUSH_AGAIN_MAX_SECONDS = 2.0
GRACE_SECONDS = 30.0
#: A poll that was to wait and is answered with nothing sooner than this comes from a server that can't wait.
AT_ONCE_SECONDS = 0.05
#: The most bytes of an error's text that are sent.
ERROR_CHARACTERS_MAX = 10_000

log = logging.getLogger("orchy.worker")
_F = TypeVar("_F", bound=Callable[..., Any])


class Worker:
    """`servers` are one or more "host:port" of the worker API; `worker_id` is what the histories call this worker."""

    def __init__(self, *servers: str, worker_id: str | None = None, grace_seconds: float = GRACE_SECONDS) -> None:
        if not servers:
            raise ValueError("a worker needs the address of a server, such as 127.0.0.1:8099")
        for server in servers:
            host, colon, port = server.rpartition(":")
            if not (host and colon and port.isdigit()):
                raise ValueError(f"{server!r} is not an address such as 127.0.0.1:8099")
        self._seeds = servers
        self._id = worker_id or f"{socket.gethostname()}-{os.getpid()}"
        self._grace_seconds = grace_seconds
        self._actions: dict[str, RegisteredAction] = {}

    def action(
        self,
        name: str,
        *,
        retry_count: int = 1,
        retry_policy: str = "FIXED",
        retry_after_seconds: float = 0,
        timeout_seconds: float = 0,
        poll_interval_seconds: float = 1.0,
        batch_size: int = 10,
        threads: int = 4,
    ) -> Callable[[_F], _F]:
        """Make a function (dict -> dict, sync or async) the user action `name`.

        `retry_count` is how often it may run in all; `timeout_seconds` how long one run may take (0: the server's
        default); `threads` how many run at the same time (of an async function, tasks); `batch_size` how many one poll
        takes at most; `poll_interval_seconds` how often a server that can't hold a poll is asked.
        """

        def keep(function: _F) -> _F:
            if name in self._actions:
                raise ValueError(f"there is a function for the action {name!r} already")
            self._actions[name] = register(
                function,
                name,
                retry_count=retry_count,
                retry_policy=retry_policy,
                retry_after_seconds=retry_after_seconds,
                timeout_seconds=timeout_seconds,
                poll_interval_seconds=poll_interval_seconds,
                batch_size=batch_size,
                threads=threads,
            )
            return function

        return keep

    def run(self) -> None:
        """Work until SIGTERM or SIGINT; then finish what is held, and return."""
        trio.run(self._run_until_signal)

    async def _run_until_signal(self) -> None:
        stop = trio.Event()
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.run_async, stop)
                async for _ in signals:
                    if stop.is_set():  # asked twice: now
                        nursery.cancel_scope.cancel()
                    else:
                        log.info("stopping: finishing what is held")
                        stop.set()
                        nursery.start_soon(self._end_when_done, nursery)

    async def _end_when_done(self, nursery: trio.Nursery) -> None:
        while len(nursery.child_tasks) > 1:
            await trio.sleep(0.02)
        nursery.cancel_scope.cancel()

    async def run_async(self, stop: trio.Event) -> None:
        """For those on Trio: work until `stop` is set, then finish what is held."""
        if not self._actions:
            raise ValueError("a worker needs at least one action")
        servers = Servers(self._seeds, self._register_all)
        async with trio.open_nursery() as connections:
            connections.start_soon(servers.run)
            async with trio.open_nursery() as work:
                async with trio.open_nursery() as polls:
                    for action in self._actions.values():
                        polls.start_soon(self._poll_all, action, servers, work)
                    await stop.wait()
                    polls.cancel_scope.cancel()
                work.cancel_scope.deadline = trio.current_time() + self._grace_seconds
            if work.cancel_scope.cancelled_caught:
                log.error("stopped before all was finished: those attempts end by their time-outs")
            connections.cancel_scope.cancel()

    async def _register_all(self, channel: Channel) -> None:
        """Tell a server of the actions; each time it is connected to, since it may have lost them."""
        for action in self._actions.values():
            definition = action.definition
            message = pb.ActionDefinition(
                name=definition.name,
                retryCount=definition.retry_count,
                retryAfterSeconds=round(definition.retry_after_seconds),
                retryPolicy=definition.retry_policy,
                timeoutSeconds=round(definition.timeout_seconds),
            )
            await channel.call("ActionService/SaveActionDefinition", message, pb.ActionDefinitionSaveResponse)

    # Polls.

    async def _poll_all(self, action: RegisteredAction, servers: Servers, work: trio.Nursery) -> None:
        """One poller for each server, as they come and go; the slots are shared by all."""
        slots = trio.Semaphore(action.slots)
        pollers: set[Channel] = set()
        async with trio.open_nursery() as nursery:
            while True:
                for channel in servers.channels():
                    if channel not in pollers:
                        pollers.add(channel)
                        nursery.start_soon(self._poll_one, action, channel, slots, servers, work, pollers)
                await servers.changed()

    async def _poll_one(
        self,
        action: RegisteredAction,
        channel: Channel,
        slots: trio.Semaphore,
        servers: Servers,
        work: trio.Nursery,
        pollers: set[Channel],
    ) -> None:
        try:
            while channel.open:
                await slots.acquire()
                taken = 1
                try:
                    while taken < action.batch_size and slots.value:
                        slots.acquire_nowait()
                        taken += 1
                    asked_at = trio.current_time()
                    polled = await self._poll(action, channel, taken)
                    for message in polled:
                        taken -= 1
                        work.start_soon(self._work, action, message, slots, servers)
                finally:
                    for _ in range(taken):
                        slots.release()
                if not polled and trio.current_time() - asked_at < AT_ONCE_SECONDS:
                    await trio.sleep(action.poll_interval_seconds)
        except ConnectionLost:
            pass  # a new connection gets a poller of its own
        finally:
            pollers.discard(channel)

    async def _poll(self, action: RegisteredAction, channel: Channel, count: int) -> list[Any]:
        request = pb.ActionPollRequest(
            actionType=action.definition.name,
            batchSize=count,
            waitMillis=int(WAIT_SECONDS * 1000),
            workerId=self._id,
        )
        try:
            with trio.fail_after(WAIT_SECONDS + ANSWER_SECONDS):
                reply = await channel.call("ActionService/Poll", request, pb.Actions)
                return list(reply.actions)
        except Status as status:
            log.warning("a poll for %s failed: %s", action.definition.name, status.message)
        except trio.TooSlowError:
            log.warning("a poll for %s was not answered", action.definition.name)
        return []

    # Work.

    async def _work(self, action: RegisteredAction, message: Any, slots: trio.Semaphore, servers: Servers) -> None:
        try:
            result = await self._result_of(action, message)
        finally:
            slots.release()
        await self._push(result, servers)

    async def _result_of(self, action: RegisteredAction, message: Any) -> Any:
        result = pb.ActionResult(
            workflowName=message.workflowName,
            actionName=message.actionName,
            flowId=message.flowId,
            actionId=message.actionId,
            retryCount=message.retryCount,
            workerId=self._id,
        )
        context = ActionContext(
            message.workflowName,
            message.flowId,
            message.actionId,
            message.actionName,
            message.retryCount,
            message.timeoutSeconds,
        )
        try:
            output = await action.call(json_of_map(message.data), context)
            if output is None:
                output = {}
            if not isinstance(output, dict):
                raise ActionFailed(f"the function answered {type(output).__name__}, not a dict")
            for key, item in output.items():
                if not isinstance(key, str):
                    raise ActionFailed(f"the function's answer has the key {key!r}, which is not a string")
                fill_value(result.data[key], item)
        except (ActionFailed, InvalidInput) as error:
            self._fail(result, str(error))
        except Exception as error:
            log.warning("%s failed", action.definition.name, exc_info=True)
            self._fail(result, f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)
        return result

    def _fail(self, result: Any, text: str) -> None:
        result.data.clear()
        result.status = pb.ActionResult.FAIL
        result.error = text[:ERROR_CHARACTERS_MAX].encode("utf-8", "replace").decode()

    async def _push(self, result: Any, servers: Servers) -> None:
        """Until a server takes it, or says that it never can."""
        again_seconds = PUSH_AGAIN_MIN_SECONDS
        while True:
            for channel in await servers.some():
                try:
                    with trio.fail_after(PUSH_SECONDS):
                        reply = await channel.call("ActionService/Push", result, pb.ActionResultPushResponse)
                except Status as status:
                    if status.code in (Code.INVALID_ARGUMENT, Code.RESOURCE_EXHAUSTED):
                        if result.status == pb.ActionResult.SUCCESS:
                            self._fail(result, f"the server refused the result: {status.message}")
                            continue
                        log.error("the server refused a result of flow %s: %s", result.flowId, status.message)
                        return
                    log.warning("a result of flow %s was not taken: %s", result.flowId, status.message)
                except (ConnectionLost, trio.TooSlowError) as error:
                    log.info("a result of flow %s is pushed again: %s", result.flowId, error)
                else:
                    if not reply.status:
                        log.warning("flow %s is not there any more: its result is dropped", result.flowId)
                    return
            await trio.sleep(again_seconds)
            again_seconds = min(2 * again_seconds, PUSH_AGAIN_MAX_SECONDS)
