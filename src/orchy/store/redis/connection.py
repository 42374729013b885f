"""One Redis server, one connection, shared by all tasks of the node.

Commands that wait are written together, and replies come back in the order of the commands, so that a command
costs no round trip of its own. A task that waits for its reply is parked and woken by the reader; one that is
cancelled leaves its place in the order behind.

When the connection is lost, what was handed to the socket is `Lost`: it may have been carried out or not. What was
not waits for the next connection, as long as a command may wait at all. The connection is made again with
exponential backoff and full jitter, for ever. A server that leaves a command unanswered for too long is treated as
a lost connection: nothing behind that command would be answered either.
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

#: The most bytes that are put together for one write.
WRITE_BYTES_MAX = 256 * 1024
READ_BYTES_MAX = 256 * 1024
#: The most commands that wait for the socket or for an answer; further ones wait for room.
COMMANDS_MAX = 10_000
BACKOFF_MIN_SECONDS = 0.05
BACKOFF_MAX_SECONDS = 2.0
#: How often answers that are overdue are looked for.
WATCH_SECONDS = 0.25

log = logging.getLogger(__name__)


Part: TypeAlias = bytes | str | int | float


def pack(*command: Part) -> bytes:
    """A command as it travels."""
    packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type]  # its stub has room for one part only
    return packed


class Lost(Exception):
    """The connection ended after a command was handed to the socket and before its answer came."""


class Refused(Exception):
    """The server took the connection but not the credentials, or not in this state."""


@attrs.define(eq=False)
class _Call:
    """A command under way. `task` is None once its caller has gone."""

    packed: bytes
    task: trio.lowlevel.Task | None
    since: float
    replies: int = 1
    answer: Any = None
    error: Exception | None = None

    def wake(self) -> None:
        if self.task is not None:
            trio.lowlevel.reschedule(self.task)
            self.task = None


def _answer(call: _Call) -> Any:
    """What a call came to. Raises Lost, StoreUnavailable."""
    if call.error is not None:
        raise call.error
    return call.answer


class Connection:
    """Commands to one server. `run` must be running."""

    def __init__(self, address: Address, settings: RedisSettings) -> None:
        self.address = address
        self.commands_total = 0
        self.connections_total = 0
        self._settings = settings
        self._queued: deque[_Call] = deque()
        self._sent: deque[_Call] = deque()
        self._stream: PromptStream | None = None
        self._unwritten = b""
        self._something_queued = trio.Event()
        self._room = trio.Event()
        self._why_down = "it was not reached yet"
        self._reset = trio.Event()

    async def call(self, packed: bytes) -> Any:
        """Send one packed command and wait for its reply, which may be a hiredis.ReplyError.

        Raises Lost, or StoreUnavailable when there was no connection in time.
        """
        if self._full:
            await self._wait_for_room()
        call = self._queue(packed)
        await self._wait_for(call)
        return _answer(call)

    async def call_all(self, packed: Sequence[bytes]) -> list[Any]:
        """Send many commands with nothing between them; of each its reply, or what `call` would raise.

        They go into the socket with one write as far as it takes them, and their caller is woken once.
        """
        if self._full:
            try:
                await self._wait_for_room()
            except StoreUnavailable as error:  # of each: what others of the caller's may be under way elsewhere
                return [error] * len(packed)
        calls = [self._queue(one, waits=False) for one in packed]
        if calls:
            calls[-1].task = trio.lowlevel.current_task()
            await self._wait_for(*calls)
        return [call.answer if call.error is None else call.error for call in calls]

    async def call_pair(self, first: bytes, second: bytes) -> Any:
        """Send two commands with nothing between them; the second one's reply."""
        call = self._queue(first + second)
        call.replies = 2
        await self._wait_for(call)
        return _answer(call)

    @property
    def _full(self) -> bool:
        return len(self._queued) + len(self._sent) >= COMMANDS_MAX

    async def _wait_for_room(self) -> None:
        """Raises StoreUnavailable when there is none in time."""
        with trio.move_on_after(self._settings.command_timeout_seconds) as scope:
            while self._full:
                await self._room.wait()
        if scope.cancelled_caught:
            raise StoreUnavailable(f"Redis at {self.address} has {COMMANDS_MAX:,} commands to answer already")

    def _make_room(self) -> None:
        """Commands are gone, answered or not: let others in."""
        if not self._full and not self._room.is_set():
            self._room.set()
            self._room = trio.Event()

    def _queue(self, packed: bytes, *, waits: bool = True) -> _Call:
        call = _Call(packed, trio.lowlevel.current_task() if waits else None, trio.current_time())
        self._queued.append(call)
        return call

    async def _wait_for(self, *calls: _Call) -> None:
        """Until the last of them is answered: answers come in order, and so do losses."""

        def abort(_: object) -> trio.lowlevel.Abort:
            calls[-1].task = None
            return trio.lowlevel.Abort.SUCCEEDED

        if self._sent or self._unwritten or self._stream is None:
            self._something_queued.set()
        else:  # with nothing under way there is nothing to be gathered either
            packed = self._next_batch()
            self._unwritten = packed[self._stream.send_at_once(packed) :]
            if self._queued or self._unwritten:
                self._something_queued.set()
        try:
            await trio.lowlevel.wait_task_rescheduled(abort)
        except trio.Cancelled:
            given_up = set(calls)  # what is not handed to the socket yet shall never be
            self._queued = deque(call for call in self._queued if call not in given_up)
            self._make_room()
            raise

    def reset(self) -> None:
        """Connect anew: the server is not what it was (for instance, it became a replica)."""
        self._reset.set()

    async def run(self) -> NoReturn:
        """Keep a connection until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch)
            backoff_seconds = BACKOFF_MIN_SECONDS
            while True:
                try:
                    stream = await self._connect()
                except (
                    OSError,
                    trio.TooSlowError,
                    trio.BrokenResourceError,
                    trio.ClosedResourceError,
                    hiredis.ProtocolError,
                    Refused,
                ) as error:
                    self._note_down(error)
                    await trio.sleep(random.uniform(0, backoff_seconds))
                    backoff_seconds = min(2 * backoff_seconds, BACKOFF_MAX_SECONDS)
                    continue
                if self.connections_total:
                    log.info("connected to Redis at %s again", self.address)
                self.connections_total += 1
                backoff_seconds = BACKOFF_MIN_SECONDS
                try:
                    await self._serve(stream)
                except* (
                    OSError,
                    trio.BrokenResourceError,
                    trio.ClosedResourceError,
                    hiredis.ProtocolError,
                    Lost,
                ) as group:
                    self._note_down(group.exceptions[0])
                finally:
                    self._lose_sent()
                    self._give_up_overdue()  # rather than send it after its time
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
                data = await stream.receive_some(READ_BYTES_MAX)
                if not data:
                    raise Refused("it closed the connection")
                reader.feed(bytes(data))
                reply = reader.gets()
            # An ACL may forbid CLIENT: then the connection has no name.
            if isinstance(reply, hiredis.ReplyError) and command[0] == "AUTH":
                raise Refused(str(reply))

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
                raise Lost("the connection was given up")
        finally:
            self._stream = None

    async def _write(self, stream: trio.abc.Stream) -> NoReturn:
        while True:
            self._unwritten = self._unwritten or self._next_batch()
            if self._unwritten:  # until it is written nobody else writes
                await stream.send_all(self._unwritten)
                self._unwritten = b""
            else:
                self._something_queued = trio.Event()
                await self._something_queued.wait()

    def _next_batch(self) -> bytes:
        """Commands that wait, for one write; they count as sent."""
        batch: list[bytes] = []
        size_bytes = 0
        while self._queued and size_bytes < WRITE_BYTES_MAX:
            call = self._queued.popleft()
            batch.append(call.packed)
            size_bytes += len(call.packed)
            self._sent.append(call)
        self.commands_total += len(batch)
        return b"".join(batch)

    async def _read(self, stream: trio.abc.Stream) -> NoReturn:
        reader = hiredis.Reader()
        while True:
            data = await stream.receive_some(READ_BYTES_MAX)
            if not data:
                raise Lost("the server closed the connection")
            reader.feed(bytes(data))
            while (reply := reader.gets()) is not False:
                if not self._sent:
                    raise Lost("the server said something that nobody asked")
                call = self._sent[0]
                call.replies -= 1
                if not call.replies:
                    self._sent.popleft()
                    call.answer = reply
                    call.wake()
            self._make_room()

    async def _watch(self) -> NoReturn:
        """End what waits for too long: an answer that is overdue, a command that finds no connection."""
        while True:
            await trio.sleep(WATCH_SECONDS)
            if self._sent and self._sent[0].since < self._overdue:
                self.reset()
            else:
                self._give_up_overdue()

    @property
    def _overdue(self) -> float:
        """What has waited since then has waited for too long."""
        return trio.current_time() - self._settings.command_timeout_seconds

    def _give_up_overdue(self) -> None:
        """Commands that found no connection in time. What was sent before them must be answered or lost by now: the
        last one of a batch wakes its caller.
        """
        while not self._sent and self._queued and self._queued[0].since < self._overdue:
            call = self._queued.popleft()
            call.error = StoreUnavailable(f"Redis at {self.address} is not there: {self._why_down}")
            call.wake()
        self._make_room()

    def _lose_sent(self) -> None:
        while self._sent:
            call = self._sent.popleft()
            call.error = Lost(f"the connection to Redis at {self.address} was lost")
            call.wake()

    def _note_down(self, error: BaseException) -> None:
        # A TLS handshake's failure is told by its cause.
        why = str(error) or str(error.__cause__ or "") or type(error).__name__
        if isinstance(error, trio.TooSlowError):
            why = f"no answer within {math.ceil(self._settings.connect_timeout_seconds)} s"
        if why != self._why_down:
            log.warning("Redis at %s is not there: %s", self.address, why)
        self._why_down = why

    @property
    def why_down(self) -> str:
        """Why there was no connection the last time that there was none."""
        return self._why_down
