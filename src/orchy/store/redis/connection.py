"""One Redis server, one connection, shared by all tasks of the node.

Commands are pipelined: those that wait are written together, and replies come back in the order of the commands. A
task that waits for its reply is parked and woken by the reader; a cancelled one leaves its place in the order behind.

When the connection is lost, commands that were handed to the socket fail with `ConnectionLost`: they may have been
carried out or not. Those still queued wait for the next connection until their timeout. Reconnecting goes on for ever,
with exponential backoff and full jitter. A server that leaves a command unanswered for too long is treated as a lost
connection: nothing behind that command would be answered either.
"""

from __future__ import annotations

import logging
import math
import random
from collections import deque
from collections.abc import Sequence
from typing import Any, NoReturn, TypeAlias

import attrs
import hiredis
import trio

from orchy.errors import StoreUnavailable
from orchy.runtime.sockets import PromptStream
from orchy.store.redis.settings import Address, RedisSettings, UnixAddress

log = logging.getLogger(__name__)

Argument: TypeAlias = bytes | str | int | float


def pack(*command: Argument) -> bytes:
    """A command in Redis's wire format."""
    packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type]  # its stub allows one argument only
    return packed


class ConnectionLost(Exception):
    """The connection ended after a command was handed to the socket and before its reply came."""


class HandshakeFailed(Exception):
    """The server accepted the connection, but not the credentials, or not in its present state."""


@attrs.define(eq=False)
class _Call:
    """A command under way. `task` is None when no caller waits for it."""

    packed: bytes
    task: trio.lowlevel.Task | None
    since: float
    replies: int = 1
    reply: Any = None
    error: Exception | None = None

    def wake(self) -> None:
        if self.task is not None:
            trio.lowlevel.reschedule(self.task)
            self.task = None


def _result_of(call: _Call) -> Any:
    """A finished call's reply. Raises ConnectionLost, StoreUnavailable."""
    if call.error is not None:
        raise call.error
    return call.reply


class Connection:
    """Commands to one server. `run` must be running."""

    def __init__(self, address: Address, settings: RedisSettings) -> None:
        self.address = address
        self.commands_total = 0
        self.connections_total = 0
        self._settings = settings
        self._limits = settings.limits
        self._timing = settings.timing
        self._commands_max = settings.limits.commands_max
        self._queued: deque[_Call] = deque()
        self._sent: deque[_Call] = deque()
        self._stream: PromptStream | None = None
        self._unwritten = b""
        self._something_queued = trio.Event()
        self._capacity_freed = trio.Event()
        self._why_down = "it was not reached yet"
        self._reset = trio.Event()

    async def call(self, packed: bytes) -> Any:
        """Send one packed command and wait for its reply, which may be a hiredis.ReplyError.

        Raises ConnectionLost, or StoreUnavailable when there was no connection in time.
        """
        if self._full:
            await self._wait_for_capacity()
        call = self._queue(packed)
        await self._wait_for(call)
        return _result_of(call)

    async def call_all(self, packed: Sequence[bytes]) -> list[Any]:
        """Send many commands with nothing between them; the reply of each, or the error that `call` would raise.

        They leave in one write as far as the socket takes them, and their caller is woken once.
        """
        if self._full:
            try:
                await self._wait_for_capacity()
            except StoreUnavailable as error:  # returned, not raised: the caller may have commands on other connections
                return [error] * len(packed)
        calls = [self._queue(one, waits=False) for one in packed]
        if calls:
            calls[-1].task = trio.lowlevel.current_task()
            await self._wait_for(*calls)
        return [call.reply if call.error is None else call.error for call in calls]

    async def call_pair(self, first: bytes, second: bytes) -> Any:
        """Send two commands with nothing between them; the reply of the second."""
        call = self._queue(first + second)
        call.replies = 2
        await self._wait_for(call)
        return _result_of(call)

    @property
    def _full(self) -> bool:
        return len(self._queued) + len(self._sent) >= self._commands_max

    async def _wait_for_capacity(self) -> None:
        """Wait until fewer than `commands_max` commands are under way. Raises StoreUnavailable after the timeout."""
        with trio.move_on_after(self._settings.command_timeout_seconds) as scope:
            while self._full:
                await self._capacity_freed.wait()
        if scope.cancelled_caught:
            raise StoreUnavailable(f"Redis at {self.address} has {self._commands_max:,} commands to answer already")

    def _wake_waiting_callers(self) -> None:
        """To be called whenever commands have left, answered or not."""
        if not self._full and not self._capacity_freed.is_set():
            self._capacity_freed.set()
            self._capacity_freed = trio.Event()

    def _queue(self, packed: bytes, *, waits: bool = True) -> _Call:
        call = _Call(packed, trio.lowlevel.current_task() if waits else None, trio.current_time())
        self._queued.append(call)
        return call

    async def _wait_for(self, *calls: _Call) -> None:
        """Until the last of them is finished: replies come in order, and so do failures."""

        def abort(_: object) -> trio.lowlevel.Abort:
            calls[-1].task = None
            return trio.lowlevel.Abort.SUCCEEDED

        if self._sent or self._unwritten or self._stream is None:
            self._something_queued.set()
        else:  # nothing is under way, so no batch to wait for: write at once
            packed = self._next_batch()
            self._unwritten = packed[self._stream.send_at_once(packed) :]
            if self._queued or self._unwritten:
                self._something_queued.set()
        try:
            await trio.lowlevel.wait_task_rescheduled(abort)
        except trio.Cancelled:
            given_up = set(calls)  # those not handed to the socket yet are never sent
            self._queued = deque(call for call in self._queued if call not in given_up)
            self._wake_waiting_callers()
            raise

    def reset(self) -> None:
        """Reconnect, because the server's role has changed (for instance, it became a replica)."""
        self._reset.set()

    async def run(self) -> NoReturn:
        """Keep a connection until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch)
            backoff_seconds = self._timing.backoff_min_seconds
            while True:
                try:
                    stream = await self._connect()
                except (
                    OSError,
                    trio.TooSlowError,
                    trio.BrokenResourceError,
                    trio.ClosedResourceError,
                    hiredis.ProtocolError,
                    HandshakeFailed,
                ) as error:
                    self._log_down(error)
                    await trio.sleep(random.uniform(0, backoff_seconds))
                    backoff_seconds = min(2 * backoff_seconds, self._timing.backoff_max_seconds)
                    continue
                if self.connections_total:
                    log.info("connected to Redis at %s again", self.address)
                self.connections_total += 1
                backoff_seconds = self._timing.backoff_min_seconds
                try:
                    await self._serve(stream)
                except* (
                    OSError,
                    trio.BrokenResourceError,
                    trio.ClosedResourceError,
                    hiredis.ProtocolError,
                    ConnectionLost,
                ) as group:
                    self._log_down(group.exceptions[0])
                finally:
                    self._fail_sent()
                    self._fail_overdue()  # rather than send them after their timeout
                    await trio.aclose_forcefully(stream)

    async def _connect(self) -> trio.abc.Stream:
        settings = self._settings
        with trio.fail_after(settings.connect_timeout_seconds):
            stream: trio.abc.Stream
            if isinstance(self.address, UnixAddress):
                stream = PromptStream(await trio.open_unix_socket(self.address.path))
            else:
                stream = PromptStream(await trio.open_tcp_stream(self.address.host, self.address.port))
                if settings.tls is not None:
                    stream = trio.SSLStream(
                        stream, settings.tls, server_hostname=self.address.host, https_compatible=True
                    )
            try:
                await self._greet(stream)
            except BaseException:
                await trio.aclose_forcefully(stream)
                raise
        return stream

    async def _greet(self, stream: trio.abc.Stream) -> None:
        settings = self._settings
        commands: list[tuple[str, ...]] = []
        if settings.password is not None:
            user = (settings.username,) if settings.username else ()
            commands.append(("AUTH", *user, settings.password))
        commands.append(("CLIENT", "SETNAME", "orchy"))
        await stream.send_all(b"".join(pack(*command) for command in commands))
        reader = hiredis.Reader()
        for command in commands:
            reply = reader.gets()
            while reply is False:
                data = await stream.receive_some(self._limits.read_bytes_max)
                if not data:
                    raise HandshakeFailed("it closed the connection")
                reader.feed(bytes(data))
                reply = reader.gets()
            # An ACL may forbid CLIENT: the connection then stays unnamed.
            if isinstance(reply, hiredis.ReplyError) and command[0] == "AUTH":
                raise HandshakeFailed(str(reply))

    async def _serve(self, stream: trio.abc.Stream) -> None:
        """Write and read until the connection is lost, which raises."""
        self._reset = trio.Event()
        self._unwritten = b""
        if isinstance(stream, PromptStream):
            self._stream = stream
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write, stream)
                nursery.start_soon(self._read, stream)
                await self._reset.wait()
                raise ConnectionLost("the connection was given up")
        finally:
            self._stream = None

    async def _write(self, stream: trio.abc.Stream) -> NoReturn:
        while True:
            self._unwritten = self._unwritten or self._next_batch()
            if self._unwritten:  # while it is non-empty, no caller writes at once
                await stream.send_all(self._unwritten)
                self._unwritten = b""
            else:
                self._something_queued = trio.Event()
                await self._something_queued.wait()

    def _next_batch(self) -> bytes:
        """Queued commands for one write; they count as sent."""
        batch: list[bytes] = []
        size_bytes, size_bytes_max = 0, self._limits.write_bytes_max
        while self._queued and size_bytes < size_bytes_max:
            call = self._queued.popleft()
            batch.append(call.packed)
            size_bytes += len(call.packed)
            self._sent.append(call)
        self.commands_total += len(batch)
        return b"".join(batch)

    async def _read(self, stream: trio.abc.Stream) -> NoReturn:
        reader = hiredis.Reader()
        while True:
            data = await stream.receive_some(self._limits.read_bytes_max)
            if not data:
                raise ConnectionLost("the server closed the connection")
            reader.feed(bytes(data))
            while (reply := reader.gets()) is not False:
                if not self._sent:
                    raise ConnectionLost("the server said something that nobody asked")
                call = self._sent[0]
                call.replies -= 1
                if not call.replies:
                    self._sent.popleft()
                    call.reply = reply
                    call.wake()
            self._wake_waiting_callers()

    async def _watch(self) -> NoReturn:
        """Enforce the command timeout: reset on an overdue reply, fail commands that find no connection."""
        while True:
            await trio.sleep(self._timing.watch_seconds)
            if self._sent and self._sent[0].since < self._overdue:
                self.reset()
            else:
                self._fail_overdue()

    @property
    def _overdue(self) -> float:
        """Commands from before this moment have waited for too long."""
        return trio.current_time() - self._settings.command_timeout_seconds

    def _fail_overdue(self) -> None:
        """Fail commands that found no connection in time.

        Only while nothing is sent: the last command of a batch wakes its caller: the earlier ones must have finished.
        """
        while not self._sent and self._queued and self._queued[0].since < self._overdue:
            call = self._queued.popleft()
            call.error = StoreUnavailable(f"Redis at {self.address} is not there: {self._why_down}")
            call.wake()
        self._wake_waiting_callers()

    def _fail_sent(self) -> None:
        while self._sent:
            call = self._sent.popleft()
            call.error = ConnectionLost(f"the connection to Redis at {self.address} was lost")
            call.wake()

    def _log_down(self, error: BaseException) -> None:
        # The reason for a failed TLS handshake is in its cause.
        why = str(error) or str(error.__cause__ or "") or type(error).__name__
        if isinstance(error, trio.TooSlowError):
            why = f"no answer within {math.ceil(self._settings.connect_timeout_seconds)} s"
        if why != self._why_down:
            log.warning("Redis at %s is not there: %s", self.address, why)
        self._why_down = why

    @property
    def why_down(self) -> str:
        """The reason for the last time without a connection."""
        return self._why_down
