"""The driver: one machine on a UDP socket, and on TCP for streams.

One task waits for the socket or for the machine's deadline, whichever is first. It drains the socket before timers
fire: a packet that arrived in time must not count as late because this process was. Time is CLOCK_BOOTTIME, which goes
on during suspend, so that a process that wakes knows how long it was suspended.

Sending never waits; a datagram that does not fit into the kernel's buffer is lost, as it may be on the network. Where
the system supports it (Linux: IP_RECVERR), refusals are read as well: addresses at which a host says that nobody
listens. Streams have tasks of their own, bounded in number, bytes and time.

An unexpected error, in input or in the application's handling of an event, ends only that datagram, stream or event: it
is counted, and logged at most once a minute.
"""

from __future__ import annotations

import errno
import ipaddress
import logging
import math
import socket
import time
from collections import Counter
from collections.abc import Callable
from typing import NoReturn

import trio

from orchy.errors import StartupError
from orchy.swim.frames import Budget, is_local, read_frame, write_frame
from orchy.swim.machine import Swim
from orchy.swim.messages import (
    Address,
    Answer,
    Connect,
    Datagram,
    Finish,
    Input,
    Output,
    Request,
    Respond,
    Send,
    StreamFailed,
    Tick,
    Unreachable,
)
from orchy.swim.notifications import Event
from orchy.swim.parameters import FRAME_BYTES_MAX
from orchy.swim.refusals import keep_refusals, read_refusals

DATAGRAM_BYTES_MAX = 65_535
#: How many datagrams are handled, and for how long, before other tasks run.
DRAIN_MAX = 512
DRAIN_SECONDS = 0.01
#: A socket that is not empty for so long is flooded: the timers wait no longer.
FLOOD_SECONDS = 1.0
RECEIVE_BUFFER_BYTES = 1 << 20
#: How many streams peers may have open. A sync takes milliseconds; further streams are closed on accept.
INBOUND_STREAMS_MAX = 64
#: How many streams the machine may have open; further ones fail at once.
OUTBOUND_STREAMS_MAX = 128
#: The first frame of a peer is a short question; only after a valid one may it send a whole table.
FIRST_FRAME_BYTES_MAX = 2_048
#: What incomplete frames of all streams may take; a stream that needs more is closed.
FRAMES_BYTES_MAX = 4 * FRAME_BYTES_MAX
#: Inputs from outside: an error in handling them is not the caller's.
_FROM_OUTSIDE = (Datagram, Request, Answer, StreamFailed, Unreachable, Tick)
ERRORS_LOG_SECONDS = 60.0
#: The pause after an error in a timer, so that one that fails each time does not keep the process busy.
ERROR_PAUSE_SECONDS = 0.1

log = logging.getLogger(__name__)


def boottime() -> float:
    """Seconds since the computer started, including suspend."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Sockets:
    """The UDP socket and the TCP listener of one address. A test may substitute one that loses packets."""

    def __init__(self, udp: socket.socket, listener: trio.SocketListener, host: str, port: int) -> None:
        self._udp = udp
        self.listener = listener
        self.address: Address = (host, port)

    async def readable(self) -> None:
        """Wait until there may be a datagram."""
        await trio.lowlevel.wait_readable(self._udp)

    def receive(self) -> tuple[bytes, Address]:
        """A datagram and its source. Raises BlockingIOError when there is none; other OSErrors can be ignored."""
        data, source = self._udp.recvfrom(DATAGRAM_BYTES_MAX)
        return data, source[:2]

    def refusals(self) -> list[Address]:
        """Addresses at which hosts said that nobody listens, each answer once; empty where unsupported."""
        return read_refusals(self._udp)

    def send(self, data: bytes, address: Address) -> None:
        """Send a datagram. Raises OSError, possibly for an earlier datagram; then nothing was sent."""
        self._udp.sendto(data, address)

    async def connect(self, address: Address) -> trio.SocketStream:
        """Open a stream. Raises OSError; ConnectionRefusedError only if the host refused."""
        try:
            return await trio.open_tcp_stream(*address)
        except OSError as error:  # a group of one error for each address of a name
            causes = error.__cause__.exceptions if isinstance(error.__cause__, ExceptionGroup) else ()
            if causes and all(isinstance(cause, ConnectionRefusedError) for cause in causes):
                raise ConnectionRefusedError(errno.ECONNREFUSED, str(error)) from None
            raise

    async def aclose(self) -> None:
        """Close both."""
        self._udp.close()
        await self.listener.aclose()


async def open_sockets(host: str, port: int, flag: str = "--bind-addr") -> Sockets:
    """Both on one address; port 0 picks one that is free for both. Raises StartupError that names `flag`."""
    try:
        family, _, _, _, resolved = (await trio.socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM))[0]
        for _ in range(20):  # a port that is free for UDP may be taken for TCP
            udp = socket.socket(family, socket.SOCK_DGRAM)
            try:
                udp.setblocking(False)
                udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
                udp.bind(resolved)
                keep_refusals(udp)
                name = udp.getsockname()
                tcp = trio.socket.socket(family, socket.SOCK_STREAM)
                try:
                    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    await tcp.bind(name)
                    tcp.listen(INBOUND_STREAMS_MAX)
                except BaseException:
                    tcp.close()
                    raise
                return Sockets(udp, trio.SocketListener(tcp), name[0], name[1])
            except OSError as error:
                udp.close()
                if port or error.errno != errno.EADDRINUSE:
                    raise
            except BaseException:
                udp.close()
                raise
        raise OSError(errno.EADDRINUSE, "no port is free for both UDP and TCP")
    except OSError as error:
        what = "is taken" if error.errno == errno.EADDRINUSE else f"can't be used: {error.strerror or error}"
        raise StartupError(f"the gossip address {host}:{port} {what}; give another with {flag}") from None


async def resolve(host: str, port: int) -> Address:
    """The IP address of a host name, as other members will use it. Raises StartupError."""
    try:
        found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except OSError as error:
        raise StartupError(f"the host {host} has no address: {error.strerror or error}") from None
    return str(found[0][4][0]), port


class Driver:
    """Runs one machine. `on_event` is called with its events, in order, from the loop."""

    def __init__(
        self,
        machine: Swim,
        sockets: Sockets,
        on_event: Callable[[Event], None],
        clock: Callable[[], float] = boottime,
    ) -> None:
        self.machine = machine
        self.counts: Counter[str] = Counter()
        self._sockets = sockets
        self._on_event = on_event
        self._clock = clock
        self._sleep = trio.CancelScope()
        self._error_logged_at = -ERRORS_LOG_SECONDS
        self._responses: dict[int, Respond] = {}
        self._finishes: dict[int, bytes] = {}
        self._inbound = 0
        self._budget = Budget(FRAMES_BYTES_MAX)
        self._stream_numbers = 0
        self._connects, self._to_connect = trio.open_memory_channel[Connect](OUTBOUND_STREAMS_MAX)

    def feed(self, input: Input) -> None:
        """Pass an input to the machine, and carry out its outputs. Raises only for orders of the application."""
        now = self._clock()
        outputs: list[Output] = []
        try:
            outputs = self.machine.handle(now, input)
        except Exception as error:
            if not isinstance(input, _FROM_OUTSIDE):
                raise
            self._log_unexpected(error, input)
        for output in outputs:
            try:
                self._carry_out(output)
            except Exception as error:
                self._log_unexpected(error, output)
        wake_at = trio.current_time() + max(0.0, self.machine.deadline - now)
        if wake_at < self._sleep.deadline:
            self._sleep.deadline = wake_at

    def _carry_out(self, output: Output) -> None:
        match output:
            case Send(address, data):
                self._send(address, data)
            case Connect(stream):
                try:
                    self._connects.send_nowait(output)
                except trio.WouldBlock:
                    self.counts["streams not opened"] += 1
                    self.feed(StreamFailed(stream))
            case Respond(stream):
                self._responses[stream] = output
            case Finish(stream, data):
                self._finishes[stream] = data
            case _:
                self._on_event(output)

    def _log_unexpected(self, error: Exception, about: object) -> None:
        self.counts["errors"] += 1
        now = trio.current_time()
        if now - self._error_logged_at >= ERRORS_LOG_SECONDS:
            self._error_logged_at = now
            log.error("an error that nobody foresaw, at %.300r; the gossip goes on", about, exc_info=error)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> NoReturn:
        """Be a member until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._accept)
            nursery.start_soon(self._open_streams)
            task_status.started()
            full_since = math.inf
            while True:
                self._sleep = trio.CancelScope(
                    deadline=trio.current_time() + max(0.0, self.machine.deadline - self._clock())
                )
                with self._sleep:
                    await self._sockets.readable()
                now = trio.current_time()
                if self._drain():
                    full_since = math.inf
                else:
                    await trio.lowlevel.checkpoint()
                    full_since = min(full_since, now)
                    if now - full_since < FLOOD_SECONDS:
                        continue  # the socket may hold more: timers wait
                    full_since = now
                if self.machine.deadline <= self._clock():
                    errors = self.counts["errors"]
                    self.feed(Tick())
                    if self.counts["errors"] > errors:
                        await trio.sleep(ERROR_PAUSE_SECONDS)

    def _drain(self) -> bool:
        """Handle queued datagrams; whether the socket is empty now."""
        until = time.monotonic() + DRAIN_SECONDS
        for number in range(DRAIN_MAX):
            if time.monotonic() > until:
                return False
            try:
                data, source = self._sockets.receive()
            except BlockingIOError:
                if number == 0:  # woken by something other than a datagram
                    self._take_refusals()
                return True
            except OSError:  # for instance, an earlier datagram was refused
                self.counts["socket errors"] += 1
                self._take_refusals()
                continue
            self.counts["datagrams received"] += 1
            self.feed(Datagram(source, data))
        return False

    def _take_refusals(self) -> None:
        """The kernel keeps them until they are read, and reports the socket as readable until then."""
        for address in self._sockets.refusals():
            self.counts["datagrams refused"] += 1
            self.feed(Unreachable(address))

    def _send(self, address: Address, data: bytes) -> None:
        try:
            ipaddress.ip_address(address[0].partition("%")[0])  # a name would be resolved, which blocks
            try:
                self._sockets.send(data, address)
            except BlockingIOError:
                raise
            except OSError:  # perhaps for an earlier datagram: reported once, instead of sending this one
                self._sockets.send(data, address)
            self.counts["datagrams sent"] += 1
        except (OSError, ValueError, OverflowError):
            self.counts["datagrams not sent"] += 1

    # Streams.

    async def _open_streams(self) -> NoReturn:
        async with trio.open_nursery() as nursery:
            while True:
                nursery.start_soon(self._exchange, await self._to_connect.receive())

    async def _exchange(self, connect: Connect) -> None:
        self.counts["streams opened"] += 1
        answer: bytes | None = None
        refused = hung_up = False
        with trio.move_on_after(self._timeout_seconds):
            try:
                async with await self._sockets.connect(connect.address) as stream:
                    await write_frame(stream, connect.data)
                    answer = await read_frame(stream, FRAME_BYTES_MAX, self._budget)
                    hung_up = answer is None
                    if answer is not None:
                        self.feed(Answer(connect.stream, answer))
                        last = self._finishes.pop(connect.stream, None)
                        if last is not None:
                            await write_frame(stream, last)
            except (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
                refused = isinstance(error, ConnectionRefusedError)
                log.debug("no exchange with %s:%d: %s", *connect.address, error)
            except Exception as error:  # such as a host name that can't be encoded
                self._log_unexpected(error, connect)
        self._finishes.pop(connect.stream, None)
        if answer is None:
            self.feed(StreamFailed(connect.stream, refused, hung_up))

    async def _accept(self) -> NoReturn:
        async with trio.open_nursery() as nursery:
            while True:
                try:
                    stream = await self._sockets.listener.accept()
                except OSError as error:  # out of file descriptors, or the peer has gone already
                    log.debug("a gossip stream was not accepted: %s", error)
                    await trio.sleep(0.1)
                    continue
                if self._inbound >= INBOUND_STREAMS_MAX:
                    self.counts["streams refused"] += 1
                    await trio.aclose_forcefully(stream)
                    continue
                self._inbound += 1
                self._stream_numbers += 1
                nursery.start_soon(self._serve, stream, self._stream_numbers)

    async def _serve(self, stream: trio.SocketStream, number: int) -> None:
        """A peer's question, the answer, and perhaps one more frame."""
        try:
            with trio.move_on_after(self._timeout_seconds):
                async with stream:
                    local = is_local(stream)
                    for limit in (FIRST_FRAME_BYTES_MAX, FRAME_BYTES_MAX):
                        frame = await read_frame(stream, limit, self._budget)
                        if frame is None:
                            return
                        self.feed(Request(number, frame, local))
                        response = self._responses.pop(number, None)
                        if response is None:
                            return
                        await write_frame(stream, response.data)
                        if not response.more:
                            return
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            log.debug("a gossip stream ended: %s", error)
        except Exception as error:
            self._log_unexpected(error, "a stream of a peer")
        finally:
            self._inbound -= 1
            self._responses.pop(number, None)

    @property
    def _timeout_seconds(self) -> float:
        """How long one exchange may take, in seconds."""
        return self.machine.parameters.stream_timeout_seconds
