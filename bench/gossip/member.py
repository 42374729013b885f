"""A real member of a gossip cluster, which prints its events as JSON lines.

`python -m bench.gossip.member NAME PROFILE PORT [SEED_PORT]`.
"""

from __future__ import annotations

import json
import sys

import trio

from orchy.swim.envelope import Envelope
from orchy.swim.machine import Swim
from orchy.swim.messages import Join
from orchy.swim.notifications import Died, Event, Joined
from orchy.swim.parameters import PROFILES
from orchy.swim.udp import Driver, boottime, open_sockets


def print_event(event: Event) -> None:
    """Print one event. Its time is the machine's uptime, which is comparable between processes."""
    if isinstance(event, Died | Joined):
        line = {"at": boottime(), "event": type(event).__name__, "member": event.member.name}
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


async def run_member(name: str, profile: str, port: int, seeds: list[int]) -> None:
    """Run until killed."""
    sockets = await open_sockets("127.0.0.1", port)
    machine = Swim(
        name=name, address=sockets.address, now=boottime(), envelope=Envelope("bench"), parameters=PROFILES[profile]
    )
    driver = Driver(machine, sockets, print_event)
    driver.feed(Join(tuple(("127.0.0.1", seed) for seed in seeds)))
    await driver.run()


if __name__ == "__main__":
    trio.run(run_member, sys.argv[1], sys.argv[2], int(sys.argv[3]), [int(port) for port in sys.argv[4:]])
