"""Fetches work: over streams where all servers have them, else by polls. Both share the slots."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import trio

from orchy.worker.action import Attempt, RegisteredAction
from orchy.worker.held import HeldAttempts
from orchy.worker.parameters import Parameters
from orchy.worker.polling import ActionPolls
from orchy.worker.results import ResultPusher
from orchy.worker.server_pool import ServerPool
from orchy.worker.streams import Streams

log = logging.getLogger("orchy.worker")


class Fetcher:
    """Fetches the work of one worker; the tasks that carry it out run in `work`."""

    def __init__(
        self,
        actions: Mapping[str, RegisteredAction],
        servers: ServerPool,
        results: ResultPusher,
        work: trio.Nursery,
        worker_id: str,
        parameters: Parameters,
    ) -> None:
        self._parameters = parameters
        self._actions = actions
        self._servers = servers
        self._results = results
        self._work = work
        self._worker_id = worker_id
        self._streams: Streams | None = None
        self._held = HeldAttempts()
        self._slots = {name: trio.Semaphore(action.slots) for name, action in actions.items()}

    async def run(self, stop: trio.Event) -> None:
        """Until `stop`; changes over as servers of older versions join and leave."""
        async with trio.open_nursery() as first:
            first.start_soon(_cancel_at, stop, first.cancel_scope)
            await self._servers.wait_open()
            first.cancel_scope.cancel()
        while not stop.is_set():
            streams = self._servers.all_have_streams
            log.debug("work comes by %s", "streams" if streams else "polls")
            change = trio.Event()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_set_at, stop, change)
                nursery.start_soon(self._watch, streams, change)
                await (self._stream(change) if streams else self._poll(change))
                nursery.cancel_scope.cancel()

    async def _watch(self, streams: bool, change: trio.Event) -> None:
        while self._servers.all_have_streams == streams or not self._servers.channels():
            await self._servers.changed()
        change.set()

    async def _stream(self, stop: trio.Event) -> None:
        self._streams = Streams(
            self._actions,
            self._slots,
            self._servers,
            self._results,
            self._work,
            self._worker_id,
            self._extend,
            self._held,
            self._parameters,
        )
        await self._streams.run(stop)

    def _extend(self, attempt: Attempt, over: trio.Event) -> None:
        """Extend an attempt on the streams that there are now, however it came."""
        if self._streams is not None:
            self._streams.extend(attempt, over)

    async def _poll(self, stop: trio.Event) -> None:
        async with trio.open_nursery() as polls:
            for name, action in self._actions.items():
                polls.start_soon(
                    ActionPolls(
                        action,
                        self._slots[name],
                        self._servers,
                        self._results,
                        self._work,
                        self._worker_id,
                        self._extend,
                        self._parameters,
                    ).run,
                    stop,
                )


async def _set_at(event: trio.Event, other: trio.Event) -> None:
    await event.wait()
    other.set()


async def _cancel_at(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()
