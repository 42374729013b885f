"""The gossip port of two real members on loopback: whatever comes in, they go on, and keep nothing of it."""

from __future__ import annotations

import random
import socket
from contextlib import suppress

import pytest
import trio

from orchy.swim.codec import encode, join
from orchy.swim.envelope import Envelope
from orchy.swim.machine import Swim
from orchy.swim.messages import Dead, Join, Ping, Suspect
from orchy.swim.parameters import PROFILES
from orchy.swim.udp import FIRST_FRAME_BYTES_MAX, INBOUND_STREAMS_MAX, Driver, boottime, open_sockets
from tests.swim.test_gossip_values import EACH, mangled, pack_strange

HANG_SECONDS = 30
PACKETS = 3_000


class Two:
    """Two members that know each other."""

    def __init__(self):
        self.machines = []
        self.drivers = []
        self.ports = []

    async def start(self, nursery):
        for number in range(2):
            sockets = await open_sockets("127.0.0.1", 0)
            machine = Swim(
                name=f"m{number}",
                address=sockets.address,
                now=boottime(),
                envelope=Envelope("listeners"),
                parameters=PROFILES["fast"],
            )
            driver = Driver(machine, sockets, lambda event: None)
            driver.feed(Join((("127.0.0.1", self.ports[0]),) if self.ports else ()))
            nursery.start_soon(driver.run)
            self.machines.append(machine)
            self.drivers.append(driver)
            self.ports.append(sockets.address[1])
        await self.wait_for(lambda: all(machine.live == 2 for machine in self.machines))

    async def wait_for(self, condition):
        with trio.fail_after(HANG_SECONDS):
            while not condition():
                await trio.sleep(0.01)

    @property
    def quiet(self):
        """Whether both believe what they should."""
        return [
            sorted((member.name, member.state.live) for member in machine.members) for machine in self.machines
        ] == [[("m0", True), ("m1", True)]] * 2


@pytest.fixture
async def two():
    async with trio.open_nursery() as nursery:
        members = Two()
        await members.start(nursery)
        yield members
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("seed", range(3))
async def test_random_and_damaged_datagrams(two, seed):
    print(f"seed {seed}")
    chance = random.Random(seed)
    envelope = Envelope("listeners")
    good = envelope.seal(join([encode(Ping(1, "m0", "m1")), encode(Suspect("m1", 0, "m0")), encode(Dead("x", 1, "y"))]))
    strange = Envelope("another").seal(join([encode(Dead("m1", 9, "m1"))]))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for number in range(PACKETS):
            packet = bytearray(chance.choice([good, strange, chance.randbytes(chance.randrange(1_000)), b""]))
            for _ in range(chance.randrange(1, 4)):
                if packet:
                    packet[chance.randrange(len(packet))] ^= 1 << chance.randrange(8)
            sender.sendto(bytes(packet[: chance.randrange(len(packet) + 1)]), ("127.0.0.1", two.ports[0]))
            if number % 100 == 0:
                await trio.sleep(0.001)
        sender.sendto(b"x" * 60_000, ("127.0.0.1", two.ports[0]))
    counts = two.machines[0].counts
    await two.wait_for(lambda: counts["dropped: too large"] > 0)
    assert sum(count for what, count in counts.items() if what.startswith("dropped")) > PACKETS / 2
    assert len(counts) < 30
    await two.wait_for(lambda: two.quiet)


async def test_each_field_of_each_message_with_each_type(two):
    """As packets and as frames, sealed as a member's are."""
    envelope, driver = Envelope("listeners"), two.drivers[0]
    bodies = [packed for message in EACH for fields in mangled(message) if (packed := pack_strange(fields)) is not None]
    packets = [packet for body in bodies if len(packet := envelope.seal(b"\x91" + body)) <= 1_200]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for number, packet in enumerate(packets):
            sender.sendto(packet, ("127.0.0.1", two.ports[0]))
            if number % 50 == 0:
                await trio.sleep(0.005)
    for packet in packets[::20]:
        with trio.fail_after(HANG_SECONDS):
            async with await trio.open_tcp_stream("127.0.0.1", two.ports[0]) as stream:
                await stream.send_all(len(packet).to_bytes(4, "big") + packet)
                await stream.send_eof()
                while await stream.receive_some(65_536):
                    pass
    assert len(packets) > 1_000
    await two.wait_for(lambda: two.machines[0].counts["dropped: malformed"] > len(packets) / 2)
    assert driver.counts["errors"] == 0


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\x00",
        b"\x00\x00\x00\x00",
        b"\xff\xff\xff\xff" + b"x" * 10_000,
        (FIRST_FRAME_BYTES_MAX + 1).to_bytes(4, "big") + b"x" * 5_000,
        b"\x00\x00\x00\x10" + b"x" * 16,
        b"\x00\x00\x00\x10" + b"x" * 3,
        b"GET / HTTP/1.1\r\n\r\n",
    ],
    ids=lambda sent: repr(sent[:12]),
)
async def test_frames_that_are_none(two, sent):
    stream = await trio.open_tcp_stream("127.0.0.1", two.ports[0])
    async with stream:
        try:
            await stream.send_all(sent)
            await stream.send_eof()
            with trio.fail_after(HANG_SECONDS):
                while await stream.receive_some(65_536):
                    pass
        except trio.BrokenResourceError:
            pass  # it hung up at once
    await two.wait_for(lambda: two.drivers[0]._inbound == 0)
    assert two.quiet


async def test_peers_that_never_finish_leave_room_for_others_in_the_end(two):
    """More of them than are taken at once; each is dropped when its time is over, and the members stay in touch."""
    streams = [await trio.open_tcp_stream("127.0.0.1", two.ports[0]) for _ in range(INBOUND_STREAMS_MAX + 10)]
    for stream in streams:
        with suppress(trio.BrokenResourceError):  # one too many
            await stream.send_all(b"\x00\x00\x04")
    assert two.drivers[0]._inbound <= INBOUND_STREAMS_MAX
    await two.wait_for(lambda: two.drivers[0]._inbound == 0)
    for stream in streams:
        await stream.aclose()
    assert two.quiet


@pytest.mark.real
@pytest.mark.parametrize("sent", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"])
def test_a_client_of_http_is_told_which_port_this_is(start_shared_server, sent):
    server = start_shared_server()
    with socket.create_connection(("127.0.0.1", server.gossip_port), 10) as connection:
        connection.sendall(sent)
        answer = b""
        while more := connection.recv(65_536):
            answer += more
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"workers connect to --grpc-port" in answer
