"""The worker: its functions by name, and its run from the first connection to the last result.

A stop takes no more work, finishes what is held, pushes the results, and only then closes; bounded by a grace period.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import suppress
from typing import Any, TypeVar

import trio

from orchy.rpc.generated import action_service_pb2 as pb
from orchy.rpc.grpc.channel import Channel
from orchy.worker.action import RegisteredAction, register
from orchy.worker.fetcher import Fetcher
from orchy.worker.logs import set_up_logging
from orchy.worker.parameters import DEFAULTS, Parameters
from orchy.worker.results import ResultPusher
from orchy.worker.server_pool import ServerPool

GRACE_SECONDS = 30.0
#: In a log line.
ACTIONS_SHOWN_MAX = 10

log = logging.getLogger("orchy.worker")
_F = TypeVar("_F", bound=Callable[..., Any])


class Worker:
    """Runs functions as user actions of workflows, for all servers of a cluster.

    Make one, register functions with `action`, and call `run`. A worker connects to each server, again and again where
    that fails, so it may be started before its servers are.

    * `servers`: one or more addresses of the worker API, as "host:port" (the servers' `--grpc-port`, 8099 by default).
      The other servers of the cluster are learned from these.
    * `worker_id`: what the histories of flows call this process. No two workers may have the same. None: the host name
      and the process id.
    * `grace_seconds`: how many seconds a stop waits for functions that run. What has not ended by then is given up: its
      attempts end by their leases or timeouts.
    * `tls`: True: connect by TLS, to servers whose certificates this host trusts. An `ssl.SSLContext`: connect by TLS,
      and trust what it trusts. False: connect without TLS.

    Raises ValueError if there is no address, or one that is not "host:port".
    """

    def __init__(
        self,
        *servers: str,
        worker_id: str | None = None,
        grace_seconds: float = GRACE_SECONDS,
        tls: bool | ssl.SSLContext = False,
        _parameters: Parameters = DEFAULTS,
    ) -> None:
        if not servers:
            raise ValueError("a worker needs the address of a server, such as 127.0.0.1:8099")
        for server in servers:
            host, colon, port = server.rpartition(":")
            if not (host and colon and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
                raise ValueError(f"{server!r} is not an address such as 127.0.0.1:8099")
        self._seeds = servers
        self._id = worker_id or f"{socket.gethostname()}-{os.getpid()}"
        self._grace_seconds = grace_seconds
        self._tls = ssl.create_default_context() if tls is True else (tls or None)
        self._parameters = _parameters
        self._actions: dict[str, RegisteredAction] = {}
        self._running: tuple[trio.lowlevel.TrioToken, trio.Event] | None = None

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
        """A decorator that makes a function a user action. The function stays as it is, and can be called as before.

        The function takes the action's parameters as a dict and returns its output as a dict of JSON values, or None
        for an empty one; it may take an `ActionContext` as a second argument. A plain function runs in a thread, an
        async one as a Trio task. An exception fails the attempt and becomes its reason; `ActionFailed` gives the reason
        in your own words. An action may run more than once for one flow, so let the function be repeatable.

        Retries and timeout are kept by the servers. Of two workers that say different things of an action, the last one
        to connect counts. Times are sent in whole seconds, rounded up.

        * `name`: the action's name in workflows, 1 to 256 printable characters.
        * `retry_count`: how many times the action may run in all, at most 10,000. 0 and 1: once.
        * `retry_policy`: the pause before the next attempt. "FIXED": `retry_after_seconds`. "BACKOFF":
          `retry_after_seconds` x (attempt + 1).
        * `retry_after_seconds`: that pause, in seconds, up to a year.
        * `timeout_seconds`: how many seconds one attempt may take from when it was handed out, up to a year. 0: the
          servers' default (`--default-timeout-seconds`, 3,600).
        * `poll_interval_seconds`: how often to ask a server that can't hold a poll, or one for which no thread is free.
          With streams: how often each server has its turn where there are fewer threads than servers.
        * `batch_size`: how many attempts one poll takes at most. Streams do not need it.
        * `threads`: how many attempts of this action run at the same time: threads, or tasks of an async function.

        Raises ValueError for a setting that can't be, or a name that has a function already; TypeError for something
        that is no function, or can't be called with one or two arguments.
        """
        if not isinstance(name, str):
            raise TypeError(_describe_bad_name(name))

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
        """Work until SIGTERM, SIGINT or `stop`; then finish what is held, and return.

        A stop takes no more work, waits up to `grace_seconds` for functions that run, and brings their results to a
        server. A second signal ends the worker at once. In another thread than the main one only `stop` ends it, for
        Python gives signals to the main thread.

        The worker logs (`orchy.worker`, from level info on) to which servers it is connected, and why not. Where the
        program has not set up logging, that goes to the standard error.

        Raises ValueError if no action was registered.
        """
        self._check()
        set_up_logging()
        in_main_thread = threading.current_thread() is threading.main_thread()
        trio.run(self._run_until_signal if in_main_thread else self.run_async)

    def stop(self) -> None:
        """Have `run` or `run_async` finish what is held, and return. It does not wait for that.

        It may be called from any thread, and more than once. It does nothing if the worker does not run.
        """
        if self._running:
            token, stop = self._running
            with suppress(trio.RunFinishedError):  # it may have ended just now
                token.run_sync_soon(stop.set)

    async def _run_until_signal(self) -> None:
        stop = trio.Event()
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_stop_on_signal, signals, stop, nursery.cancel_scope)
                await self.run_async(stop)
                nursery.cancel_scope.cancel()

    async def run_async(self, stop: trio.Event | None = None) -> None:
        """As `run`, as a task of a program on Trio, and without signals.

        A cancelled worker ends at once, without what it holds.

        * `stop`: an event that, when it is set, does what the method `stop` does. None: only the method does.

        Raises ValueError if no action was registered.
        """
        self._check()
        stop = trio.Event() if stop is None else stop
        servers = ServerPool(
            self._seeds, self._register_all, self._tls, f" for {_summarize(self._actions)}", self._parameters
        )
        results = ResultPusher(servers, self._parameters)
        self._running = (trio.lowlevel.current_trio_token(), stop)
        try:
            async with trio.open_nursery() as connections:
                connections.start_soon(servers.run)
                connections.start_soon(results.run)
                async with trio.open_nursery() as work:
                    await Fetcher(self._actions, servers, results, work, self._id, self._parameters).run(stop)
                    log.info("stopping: finishing what is held")
                    work.cancel_scope.deadline = trio.current_time() + self._grace_seconds
                if work.cancel_scope.cancelled_caught:
                    log.error("stopped before all was finished: those attempts end by their timeouts")
                connections.cancel_scope.cancel()
        finally:
            self._running = None

    def _check(self) -> None:
        if not self._actions:
            raise ValueError("a worker needs at least one action")

    async def _register_all(self, channel: Channel) -> None:
        """Save the definitions at a server; after each connect, since it may have lost them."""
        for action in self._actions.values():
            await channel.call("ActionService/SaveActionDefinition", action.message(), pb.ActionDefinitionSaveResponse)


def _summarize(actions: Collection[str]) -> str:
    """The actions' names for a log line, not too many."""
    left_out = len(actions) - ACTIONS_SHOWN_MAX
    names = ", ".join(sorted(actions)[:ACTIONS_SHOWN_MAX])
    return f"the action{'s' * (len(actions) > 1)} {names}{f' and {left_out} more' if left_out > 0 else ''}"


def _describe_bad_name(given: object) -> str:
    """What to say when something else was given as an action's name."""
    if not callable(given):
        return f"the name of an action is a text, not {type(given).__name__}"
    name = getattr(given, "__name__", "name")
    return f'the decorator needs the action\'s name: write @worker.action("{name}") above {name}, with parentheses'


async def _stop_on_signal(signals: AsyncIterator[int], stop: trio.Event, scope: trio.CancelScope) -> None:
    async for _ in signals:
        if stop.is_set():  # a second signal: end now
            scope.cancel()
        stop.set()
