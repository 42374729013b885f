"""A whole cluster in virtual time: the production machines on a network that loses, delays, doubles and reorders.

Everything follows from the seed. `Network` says what happens to datagrams. Streams are modelled as TCP on the same
network: a lost segment costs its retransmission timeout, the host of a dead process refuses, and a stalled process, a
host without power and one behind a cut answer nothing. A stalled process does nothing, and its datagrams wait in a
socket buffer; when it resumes, it handles those first and then sees that its timers are late, as the driver does.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import Counter
from collections.abc import Callable, Collection, Sequence

import attrs

from orchy.swim.envelope import Envelope
from orchy.swim.machine import Swim
from orchy.swim.members import Snapshot, snapshot
from orchy.swim.messages import (
    Address,
    Answer,
    Connect,
    Datagram,
    Finish,
    Input,
    Join,
    Leave,
    Output,
    Record,
    Request,
    Respond,
    Send,
    State,
    StreamFailed,
    Tick,
    Unreachable,
)
from orchy.swim.network import Network as Network
from orchy.swim.parameters import PROFILES, Parameters
from orchy.swim.simulated import Happened as Happened
from orchy.swim.simulated import Process as Process

#: How many small datagrams a socket buffer of 208 KiB holds, as Linux accounts for them.
SOCKET_BUFFER_PACKETS = 277
#: TCP's timeouts for a lost SYN and for a lost segment (RFC 6298; Linux).
SYN_TIMEOUT_SECONDS, SEGMENT_TIMEOUT_SECONDS = 1.0, 0.2
PORT = 8400


class Simulator:
    """Processes, the network between them, a clock and one source of randomness."""

    def __init__(self, seed: int, network: Network | None = None, parameters: Parameters = PROFILES["default"]) -> None:
        self.choose = random.Random(seed)
        self.network = network or Network()
        self.parameters = parameters
        self.now = 0.0
        self.processes: dict[str, Process] = {}
        #: Datagrams, streams and bytes sent.
        self.counts: Counter[str] = Counter()
        #: Called with each event; the default keeps them in `happened`.
        self.on_event: Callable[[Happened], None]
        self.happened: list[Happened] = []
        self.on_event = self.happened.append
        self._by_address: dict[Address, Process] = {}
        self._queue: list[tuple[float, int, Process | None, Input | Callable[[], None]]] = []
        self._entries = 0
        self._streams: dict[int, tuple[Process, int, Process]] = {}  # number here -> asker, its own number, asked
        self._stream_numbers = 0
        self._hosts = 0

    # Processes.

    def form(self, count: int, label: str = "sim", keys: Sequence[bytes] = ()) -> list[str]:
        """Start `count` members that know each other; returns their names."""
        names = [f"n{number}" for number in range(count)]
        records = [Record(name, 1, State.ALIVE, self.new_address()) for name in names]
        base = snapshot(records)
        envelope = Envelope(label, keys)
        for record in records:
            process = self._start(record.name, record.address, label, base, envelope)
            process.machine.handle(self.now, Join(()))
            self._schedule(process)
        return names

    def start(
        self,
        name: str,
        seeds: Collection[str] = (),
        address: Address | None = None,
        label: str = "sim",
        keys: Sequence[bytes] = (),
    ) -> Process:
        """Start a process that joins `seeds`. Its address is the last one of its name, or a new one."""
        old = self.processes.get(name)
        address = address or (old.machine.me.address if old else self.new_address())
        process = self._start(name, address, label, None, Envelope(label, keys))
        addresses = tuple(self.processes[seed].machine.me.address for seed in seeds)
        self.take(process, Join(addresses))
        return process

    def crash(self, name: str) -> None:
        """kill -9. Its host refuses packets from now on."""
        process = self.processes[name]
        process.down = True
        process.inbox.clear()

    def power_off(self, name: str) -> None:
        """Its host goes down, and answers nothing."""
        self.crash(name)
        self.processes[name].silent = True

    def stall(self, name: str, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after a while."""
        process = self.processes[name]
        process.stalled_until = max(process.stalled_until, self.now + seconds)
        self.at(process.stalled_until, lambda: self._resume(process))

    def starve(self, name: str, seconds: float) -> None:
        """Block its sends and receives for a while, but not its timers: the anomaly of Lifeguard, section 5.1."""
        process = self.processes[name]
        process.starved_until = max(process.starved_until, self.now + seconds)
        self.at(process.starved_until, lambda: self._end_starvation(process))

    def leave(self, name: str) -> None:
        """SIGTERM: it leaves, and ends once enough members know."""
        process = self.processes[name]
        self.take(process, Leave())
        self._end_after_leave(process)

    def up(self) -> list[Process]:
        """Processes that were not killed."""
        return [process for process in self.processes.values() if not process.down]

    def sees(self, observer: str) -> dict[str, State]:
        """What one member believes of all others."""
        machine = self.processes[observer].machine
        return {record.name: record.state for record in machine.members if record.name != observer}

    def agree(self) -> bool:
        """Whether each running process sees exactly the running ones as live."""
        names = {process.name for process in self.up()}
        return all(
            {record.name for record in process.machine.members if record.state.live} | {process.name} == names
            for process in self.up()
        )

    # Time.

    def at(self, when: float, do: Callable[[], None]) -> None:
        """Call a function at a time."""
        self._push(when, None, do)

    def run(self, seconds: float) -> None:
        """Run for some virtual time."""
        end, queue, step = self.now + seconds, self._queue, self._step
        while queue and queue[0][0] <= end:
            step()
        self.now = end

    def run_until(self, done: Callable[[], bool], seconds: float, check_every: int = 1) -> bool:
        """Run until `done`, checked every `check_every` steps, or for `seconds`; whether it is done."""
        end, steps = self.now + seconds, 0
        while self._queue and self._queue[0][0] <= end:
            steps += 1
            self._step()
            if steps % check_every == 0 and done():
                return True
        self.now = end
        return done()

    def _step(self) -> None:
        self.now, _, process, item = heapq.heappop(self._queue)
        if process is None:
            item()  # type: ignore[operator]  # without a process it is a function
        else:
            self.take(process, item)  # type: ignore[arg-type]

    # Inputs and outputs of processes.

    def take(self, process: Process, item: Input) -> None:
        """Pass an input to a process, now."""
        if process.down:
            return
        if process.stalled_until > self.now:
            if type(item) is not Tick and len(process.inbox) < SOCKET_BUFFER_PACKETS:
                process.inbox.append(item)
            return
        machine = process.machine
        now = self.now
        if process.starved_until > now and item is not _TICK and not isinstance(item, (Join, Leave)):
            if len(process.inbox) < SOCKET_BUFFER_PACKETS:
                process.inbox.append(item)
            return
        if item is _TICK:
            if process.scheduled > now:
                return  # superseded by a later entry
            process.scheduled = _NEVER
            if machine.deadline > now:
                self._schedule(process)
                return
        outputs = machine.handle(now, item)
        if outputs:
            self._carry_out(process, outputs)
        if machine.deadline < process.scheduled:
            self._schedule(process)

    def _resume(self, process: Process) -> None:
        if process.stalled_until > self.now or process.down:
            return
        while process.inbox:  # datagrams before timers, as in the driver
            self._carry_out(process, process.machine.handle(self.now, process.inbox.popleft()))
        process.scheduled = _NEVER
        self._schedule(process)

    def _end_starvation(self, process: Process) -> None:
        if process.starved_until > self.now or process.down:
            return
        self._carry_out(process, [process.outbox.popleft() for _ in range(len(process.outbox))])
        while process.inbox:
            self.take(process, process.inbox.popleft())

    def _schedule(self, process: Process) -> None:
        deadline = process.machine.deadline
        if deadline < process.scheduled:
            process.scheduled = deadline
            self._push(max(deadline, self.now), process, _TICK)

    def _push(self, when: float, process: Process | None, item: Input | Callable[[], None]) -> None:
        self._entries += 1
        heapq.heappush(self._queue, (when, self._entries, process, item))

    def _carry_out(self, process: Process, outputs: list[Output]) -> None:
        if process.starved_until > self.now:
            process.outbox.extend(output for output in outputs if isinstance(output, _NEEDS_NETWORK))
            outputs = [output for output in outputs if not isinstance(output, _NEEDS_NETWORK)]
        for output in outputs:
            match output:
                case Send(address, data):
                    self._datagram(process, address, data)
                case Connect():
                    self._connect(process, output)
                case Respond(stream, data):
                    self._respond(process, stream, data)
                case Finish(stream, data):
                    self._finish(process, stream, data)
                case _:
                    self.on_event(Happened(self.now, process.name, output))

    # The network.

    def _datagram(self, source: Process, address: Address, data: bytes) -> None:
        network, choose, counts = self.network, self.choose, self.counts
        counts["datagrams"] += 1
        counts["bytes"] += len(data)
        target = self._by_address.get(address)
        if target is None or (network.cuts and (source.host, target.host) in network.cuts):
            return
        copies = 2 if network.duplication and choose.random() < network.duplication else 1
        for _ in range(copies):
            if network.loss and choose.random() < network.loss:
                continue
            delay = self._delay()
            if network.reordering and choose.random() < network.reordering:
                delay += choose.random() * network.reorder_seconds
            if target.down:
                self._refuse(source, target, delay)
            else:
                self._push(self.now + delay, target, Datagram(source.machine.me.address, data))

    def _refuse(self, source: Process, target: Process, delay: float) -> None:
        lost = self.network.loss and self.choose.random() < self.network.loss
        if not target.silent and not lost and self._passes(source, target):
            self._push(self.now + delay + self._delay(), source, Unreachable(target.machine.me.address))

    def _delay(self) -> float:
        return self.network.delay_seconds - math.log(1.0 - self.choose.random()) * self.network.jitter_seconds

    def _segments(self, timeout_seconds: float, count: int) -> float:
        """How long `count` segments take, one after the other, with retransmissions."""
        seconds = 0.0
        for _ in range(count):
            wait = timeout_seconds
            while self.network.loss and self.choose.random() < self.network.loss:
                seconds += wait
                wait *= 2
            seconds += self._delay()
        return seconds

    def _passes(self, one: Process, other: Process) -> bool:
        cuts = self.network.cuts
        return not cuts or ((one.host, other.host) not in cuts and (other.host, one.host) not in cuts)

    def _connect(self, asker: Process, output: Connect) -> None:
        self.counts["streams"] += 1
        self.counts["bytes"] += len(output.data)
        asked = self._by_address.get(output.address)
        timeout = self.parameters.stream_timeout_seconds
        self._stream_numbers += 1
        number = self._stream_numbers
        failed = StreamFailed(output.stream)
        if asked is not None and asked.down and not asked.silent and self._passes(asker, asked):
            refused = attrs.evolve(failed, refused=True)
            self._push(self.now + self._segments(SYN_TIMEOUT_SECONDS, 2), asker, refused)
            return
        if asked is None:  # nobody ever had that address
            self._push(self.now + 2 * self._delay(), asker, failed)
            return
        self._streams[number] = (asker, output.stream, asked)
        took = self._segments(SYN_TIMEOUT_SECONDS, 2) + self._segments(SEGMENT_TIMEOUT_SECONDS, 1)
        if self._passes(asker, asked) and took < timeout and not asked.down:
            self._push(self.now + took, asked, Request(number, output.data, local=True))

        def time_out() -> None:
            if self._streams.pop(number, None) is not None:
                self.take(asker, failed)

        self.at(self.now + timeout, time_out)

    def _respond(self, asked: Process, number: int, data: bytes) -> None:
        stream = self._streams.get(number)
        if stream is None:
            return
        asker, asker_number, _ = stream
        self.counts["bytes"] += len(data)

        def answer() -> None:
            if self._passes(asker, asked) and self._streams.pop(number, None) is not None:
                self._finishing = asked, number
                self.take(asker, Answer(asker_number, data))

        self.at(self.now + self._segments(SEGMENT_TIMEOUT_SECONDS, 1), answer)

    def _finish(self, asker: Process, stream: int, data: bytes) -> None:
        asked, number = self._finishing  # the last frame is an output of the very step that handled the answer
        self.counts["bytes"] += len(data)
        if self._passes(asker, asked):
            self._push(self.now + self._segments(SEGMENT_TIMEOUT_SECONDS, 1), asked, Request(number, data))

    # Starting and ending.

    def _start(self, name: str, address: Address, label: str, base: Snapshot | None, envelope: Envelope) -> Process:
        machine = Swim(
            name=name,
            address=address,
            now=self.now,
            envelope=envelope,
            parameters=self.parameters,
            choose=random.Random(self.choose.getrandbits(64)),
            base=base,
            epoch=0.0,
        )
        process = Process(name, machine)
        self.processes[name] = self._by_address[address] = process
        return process

    def _end_after_leave(self, process: Process) -> None:
        def look() -> None:
            if process.machine.leave_announced:
                process.down = True
            else:
                self._end_after_leave(process)

        self.at(self.now + 0.1, look)

    def new_address(self) -> Address:
        """An address that no process had."""
        self._hosts += 1
        return f"10.{self._hosts >> 16}.{self._hosts >> 8 & 255}.{self._hosts & 255}", PORT


_TICK = Tick()
_NEVER = float("inf")
_NEEDS_NETWORK = (Send, Connect, Respond, Finish)
