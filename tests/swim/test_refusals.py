"""Refusals on real sockets: what a host answers for a closed port, and what it costs the other members."""

from __future__ import annotations

import socket
import sys

import pytest
import trio

from orchy.swim.envelope import Envelope
from orchy.swim.machine import Swim
from orchy.swim.messages import Join, State
from orchy.swim.notifications import Died
from orchy.swim.parameters import PROFILES
from orchy.swim.udp import Driver, boottime, open_sockets

HANG_SECONDS = 30

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="IP_RECVERR is Linux's")


@pytest.fixture(params=["127.0.0.1", "::1"])
def host(request):
    return request.param


async def closed_port(host):
    """An address of this host at which nobody listens."""
    sockets = await open_sockets(host, 0)
    await sockets.aclose()
    return sockets.address


async def test_a_closed_port_is_reported_with_its_address(host):
    sockets = await open_sockets(host, 0)
    gone = await closed_port(host)
    sockets.send(b"x", gone)
    with trio.fail_after(HANG_SECONDS):
        await sockets.readable()
    with pytest.raises(ConnectionRefusedError):
        sockets.receive()
    assert sockets.refusals() == [gone]
    assert sockets.refusals() == []
    await sockets.aclose()


async def test_a_refused_connection_is_reported_as_such(host):
    sockets = await open_sockets(host, 0)
    with pytest.raises(ConnectionRefusedError):
        await sockets.connect(await closed_port(host))
    await sockets.aclose()


class Member:
    """A member of a cluster on loopback, with a scope of its own."""

    def __init__(self, name, sockets, seeds, profile="default"):
        self.events = []
        self.machine = Swim(
            name=name,
            address=sockets.address,
            now=boottime(),
            envelope=Envelope("refusals"),
            parameters=PROFILES[profile],
        )
        self.sockets = sockets
        self.driver = Driver(self.machine, sockets, self.events.append)
        self.driver.feed(Join(tuple(seed.sockets.address for seed in seeds)))
        self.scope = trio.CancelScope()

    async def run(self):
        with self.scope:
            await self.driver.run()

    async def kill(self):
        """As with kill -9: its sockets are closed without a message."""
        self.scope.cancel()
        await self.sockets.aclose()


async def wait_for(condition):
    with trio.fail_after(HANG_SECONDS):
        while not condition():
            await trio.sleep(0.01)


async def start(nursery, host, count):
    members = []
    for number in range(count):
        members.append(Member(f"m{number}", await open_sockets(host, 0), members[:1]))
        nursery.start_soon(members[-1].run)
    await wait_for(lambda: all(member.machine.live == count for member in members))
    return members


@pytest.mark.parametrize("count", [2, 3, 5])
async def test_a_killed_member_is_dead_without_suspicion(host, count):
    async with trio.open_nursery() as nursery:
        members = await start(nursery, host, count)
        await members[-1].kill()
        await wait_for(lambda: all(member.machine.get(f"m{count - 1}").state is State.DEAD for member in members[:-1]))
        died = [event for member in members[:-1] for event in member.events if isinstance(event, Died)]
        assert any(event.witnessed for event in died)
        assert all(member.machine.counts["declared dead"] == 0 for member in members[:-1])
        nursery.cancel_scope.cancel()


async def test_refusals_cost_other_members_no_datagram(host):
    """The kernel reports a refusal instead of sending the next datagram, which may be for another member."""
    sockets = await open_sockets(host, 0)
    member = Member("m0", sockets, [])
    gone = await closed_port(host)
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind((host, 0))
        other.setblocking(False)
        for number in range(50):
            member.driver._send(gone, b"x")
            member.driver._send(other.getsockname()[:2], bytes([number]))
        assert [other.recv(10) for _ in range(50)] == [bytes([number]) for number in range(50)]
    await sockets.aclose()


async def test_refusals_do_not_keep_the_loop_busy(host):
    """Refusals are read from the socket, so that it is no longer readable."""
    async with trio.open_nursery() as nursery:
        member = Member("m0", await open_sockets(host, 0), [])
        nursery.start_soon(member.run)
        gone = await closed_port(host)
        for _ in range(20):
            member.driver._send(gone, b"x")
        await wait_for(lambda: member.driver.counts["datagrams refused"] >= 20)
        await trio.testing.wait_all_tasks_blocked(0.05)
        nursery.cancel_scope.cancel()
