"""The scenarios that the gossip is measured by: functions of a seed, on the production machine in virtual time."""

from __future__ import annotations

import gc
import time

import attrs

from orchy.swim.messages import SendUser
from orchy.swim.notifications import Died
from orchy.swim.parameters import PROFILES
from orchy.swim.simulator import Happened, Network, Simulator

SETTLE_SECONDS = 5.0
DETECTION_MAX_SECONDS = 120.0


@attrs.frozen
class Detection:
    """Seconds from a death until the first member knew, and from then until the last one did."""

    first_seconds: float
    spread_seconds: float


def detection(seed: int, members: int, profile: str, killed: bool = False) -> Detection:
    """One member's host loses its power; or, if `killed`, its process ends while the host still answers."""
    simulator = Simulator(seed, parameters=PROFILES[profile])
    names = simulator.form(members)
    simulator.run(SETTLE_SECONDS + simulator.choose.random())
    victim = simulator.choose.choice(names)
    knew: dict[str, float] = {}

    def note(happened: Happened) -> None:
        if isinstance(happened.event, Died):
            assert happened.event.member.name == victim, "a living member was declared dead"
            knew.setdefault(happened.observer, happened.at)

    simulator.on_event = note
    crashed_at = simulator.now
    if killed:
        simulator.crash(victim)
    else:
        simulator.power_off(victim)
    known_by_all = simulator.run_until(lambda: len(knew) == members - 1, DETECTION_MAX_SECONDS)
    assert known_by_all, f"not all of {members} knew after {DETECTION_MAX_SECONDS} s (seed {seed})"
    first = min(knew.values())
    return Detection(first - crashed_at, max(knew.values()) - first)


def messages_a_second(seed: int, members: int, seconds: float) -> float:
    """Datagrams and stream frames that each member sends in a quiet cluster."""
    simulator = Simulator(seed)
    simulator.form(members)
    simulator.run(seconds)
    assert not simulator.happened
    # A stream in a quiet cluster carries one request and its response.
    return (simulator.counts["datagrams"] + 2 * simulator.counts["streams"]) / members / seconds


@attrs.frozen
class FalseDeaths:
    """How often a living member was declared dead, and the node-hours simulated."""

    deaths: int
    node_hours: float


def _declared(simulator: Simulator) -> int:
    """How often a member declared another one dead, by suspicion or by evidence."""
    counts = [process.machine.counts for process in simulator.processes.values()]
    return sum(count["declared dead"] + count["dead by evidence"] for count in counts)


def deaths_by_loss(seed: int, loss: float, members: int, seconds: float, lifeguard: bool = True) -> FalseDeaths:
    """The network loses this share of the datagrams; all members live."""
    parameters = attrs.evolve(PROFILES["default"], lifeguard=lifeguard)
    simulator = Simulator(seed, Network(loss=loss), parameters)
    simulator.form(members)
    simulator.on_event = lambda happened: None
    simulator.run(seconds)
    return FalseDeaths(_declared(simulator), members * seconds / 3600)


def deaths_by_stalls(seed: int, members: int, seconds: float) -> FalseDeaths:
    """A tenth of the members is stalled at any time, each for two seconds."""
    simulator = Simulator(seed)
    names = simulator.form(members)
    simulator.on_event = lambda happened: None
    stalled = max(1, members // 10)

    def stall() -> None:
        for name in simulator.choose.sample(names, stalled):
            simulator.stall(name, 2.0)
        simulator.at(simulator.now + 2.0, stall)

    stall()
    simulator.run(seconds)
    return FalseDeaths(_declared(simulator), members * seconds / 3600)


def deaths_by_starved(seed: int, members: int, starved: int, seconds: float, lifeguard: bool) -> int:
    """Some members lose their network again and again; how many of the others are declared dead.

    The interval experiment of the Lifeguard paper (section 5.1): sends and receives of all starved members block for a
    while, then flow for a while. Timers go on meanwhile.
    """
    parameters = attrs.evolve(PROFILES["default"], lifeguard=lifeguard)
    simulator = Simulator(seed, parameters=parameters)
    names = simulator.form(members)
    slow = sorted(simulator.choose.sample(names, starved))
    deaths: set[tuple[str, int]] = set()

    def note(happened: Happened) -> None:
        event = happened.event
        if isinstance(event, Died) and event.member.name not in slow:
            deaths.add((event.member.name, event.member.incarnation))

    simulator.on_event = note
    blocked = simulator.choose.choice(BLOCKED_SECONDS)

    def block() -> None:
        for name in slow:
            simulator.starve(name, blocked)
        simulator.at(simulator.now + blocked + FLOWING_SECONDS, block)

    simulator.at(SETTLE_SECONDS, block)
    simulator.run(seconds)
    return len(deaths)


#: How long the network of starved members blocks (one of these for each run), and how long it then flows.
BLOCKED_SECONDS = (2.0, 8.0, 16.0, 32.0)
FLOWING_SECONDS = 0.25


def heal_seconds(seed: int, members: int, split_seconds: float) -> float:
    """Two halves are cut off from each other for a while; seconds from the repair until all agree again."""
    simulator = Simulator(seed)
    names = simulator.form(members)
    simulator.on_event = lambda happened: None
    simulator.run(SETTLE_SECONDS)
    hosts = [simulator.processes[name].host for name in names]
    one, other = hosts[: members // 2], hosts[members // 2 :]
    simulator.network.cut(one, other)
    simulator.network.cut(other, one)
    simulator.run(split_seconds)
    assert not simulator.agree(), "the split was too short to be noticed"
    simulator.network.heal()
    healed_at = simulator.now
    assert simulator.run_until(simulator.agree, 300, check_every=50), f"not one cluster after 300 s (seed {seed})"
    return simulator.now - healed_at


@attrs.frozen
class Restarts:
    """Restarts, and how many of them were refused or left a ghost."""

    restarts: int
    refused: int
    ghosts: int


def restarts(seed: int, members: int, count: int) -> Restarts:
    """One member is killed and restarted under its name, after a random pause, at its address or at another."""
    simulator = Simulator(seed)
    names = simulator.form(members)
    simulator.run(SETTLE_SECONDS)
    refused = ghosts = 0
    name = names[-1]
    for _ in range(count):
        simulator.crash(name)
        simulator.run(simulator.choose.choice([0.0, 0.1, 1.0, 5.0, 20.0]) * simulator.choose.random())
        address = None if simulator.choose.random() < 0.5 else simulator.new_address()
        process = simulator.start(name, [names[0]], address)
        if not simulator.run_until(lambda process=process: process.machine.joined, 60):
            refused += 1
        if not simulator.run_until(simulator.agree, 60, check_every=10):
            ghosts += 1
        simulator.run(simulator.choose.random() * 10)
    return Restarts(count, refused, ghosts)


@attrs.frozen
class QuickRestarts:
    """Restarts within a second; declared deaths while the process was gone, and after it was back."""

    restarts: int
    deaths: int
    false_deaths: int


def quick_restarts(seed: int, members: int, count: int, loss: float) -> QuickRestarts:
    """A process ends and is back within a second at its address, while the others send to it.

    Evidence may prove it dead before it is back. A death declared after that is false, as is any death of its new
    incarnation.
    """
    simulator = Simulator(seed, Network(loss=loss))
    names = simulator.form(members)
    name = names[-1]
    deaths = false_deaths = 0
    back_at = 0.0

    def note(happened: Happened) -> None:
        nonlocal deaths, false_deaths
        event = happened.event
        if not isinstance(event, Died):
            return
        process = simulator.processes[name]
        new = process.machine.joined and event.member.incarnation >= process.machine.me.incarnation
        is_false = not process.down and (new or (event.witnessed and happened.at > back_at + IN_FLIGHT_SECONDS))
        deaths += not is_false
        false_deaths += is_false

    simulator.on_event = note
    for _ in range(count):
        simulator.run(SETTLE_SECONDS + simulator.choose.random())
        simulator.crash(name)
        for other in names[:-1]:
            simulator.take(simulator.processes[other], SendUser(name, b"wake up"))
        simulator.run(simulator.choose.random())
        simulator.start(name, [names[0]])
        back_at = simulator.now
        assert simulator.run_until(simulator.agree, 60, check_every=10), f"not one cluster after 60 s (seed {seed})"
    return QuickRestarts(count, deaths, false_deaths)


#: What a host reported just before the process was back may still be in flight.
IN_FLIGHT_SECONDS = 0.05


@attrs.frozen
class Speed:
    """The CPU time of a simulation."""

    members: int
    virtual_seconds: float
    cpu_seconds: float


def simulator_speed(members: int, virtual_seconds: float) -> Speed:
    """A quiet cluster, formed before the clock starts."""
    simulator = Simulator(1)
    simulator.form(members)
    gc.collect()
    gc.freeze()  # the collector would scan ten thousand long-lived tables again and again
    began = time.process_time()
    simulator.run(virtual_seconds)
    cpu_seconds = time.process_time() - began
    gc.unfreeze()
    return Speed(members, virtual_seconds, cpu_seconds)
