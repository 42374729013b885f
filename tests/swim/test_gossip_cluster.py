"""Whole clusters in virtual time: the production machine on a faulty network. Seeds are printed."""

from __future__ import annotations

import random

import attrs
import pytest

from orchy.swim.codec import encode, join
from orchy.swim.envelope import Envelope
from orchy.swim.machine import Swim
from orchy.swim.members import snapshot
from orchy.swim.messages import (
    Alive,
    Answer,
    Datagram,
    Dead,
    IndirectPing,
    Ping,
    Record,
    Request,
    Send,
    SendUser,
    SetMeta,
    State,
    Suspect,
    Sync,
    Table,
    Tick,
)
from orchy.swim.notifications import Changed, Died, JoinRefused, Left, NameTaken, UserMessage
from orchy.swim.parameters import PROFILES, RELAYS_MAX
from orchy.swim.simulator import Network, Simulator

SEEDS = [1, 2, 3]


def make(seed, members=0, network=None, profile="default"):
    print(f"seed {seed}")
    simulator = Simulator(seed, network, PROFILES[profile])
    return simulator, simulator.form(members)


def events(simulator, kind):
    return [happened for happened in simulator.happened if isinstance(happened.event, kind)]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_crash_is_noticed_by_all(seed):
    simulator, names = make(seed, 10)
    simulator.run(5)
    simulator.crash(names[3])
    assert simulator.run_until(simulator.agree, 40)
    assert {happened.event.member.name for happened in events(simulator, Died)} == {names[3]}


def test_without_lifeguard_it_is_plain_swim():
    print("seed 1")
    simulator = Simulator(1, parameters=attrs.evolve(PROFILES["default"], lifeguard=False))
    names = simulator.form(10)
    simulator.run(5)
    simulator.crash(names[3])
    assert simulator.run_until(simulator.agree, 20)
    assert all(process.machine.health_score == 0 for process in simulator.up())


@pytest.mark.parametrize("seed", SEEDS)
def test_a_bad_network_causes_no_deaths(seed):
    network = Network(loss=0.05, duplication=0.1, reordering=0.2)
    simulator, _ = make(seed, 16, network)
    simulator.run(300)
    assert events(simulator, Died) == []
    assert simulator.agree()


@pytest.mark.parametrize("seed", SEEDS)
def test_stalls_cause_no_deaths(seed):
    simulator, names = make(seed, 20)
    for moment in range(80):
        for name in simulator.choose.sample(names, 2):
            simulator.at(2.5 * moment, lambda name=name: simulator.stall(name, 2.0))
    simulator.run(220)
    assert events(simulator, Died) == []


@pytest.mark.parametrize("seed", SEEDS)
def test_fifty_join_at_random_moments_and_one_seed_is_dead(seed):
    simulator, names = make(seed, 2)
    simulator.crash(names[1])
    joiners = [f"j{number}" for number in range(50)]
    for name in joiners:
        simulator.at(simulator.choose.random() * 3, lambda name=name: simulator.start(name, names))
    simulator.run(4)
    assert simulator.run_until(simulator.agree, 40)


@pytest.mark.parametrize("ways", ["both", "not in", "not out"])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_split_heals(seed, ways):
    simulator, names = make(seed, 12)
    simulator.run(3)
    hosts = [simulator.processes[name].host for name in names]
    if ways != "not out":
        simulator.network.cut(hosts[6:], hosts[:6])
    if ways != "not in":
        simulator.network.cut(hosts[:6], hosts[6:])
    simulator.run(90)
    simulator.network.heal()
    assert simulator.run_until(simulator.agree, 35)


@pytest.mark.parametrize("seed", SEEDS)
def test_several_splits_heal_though_some_members_died_in_between(seed):
    simulator, names = make(seed, 15)
    hosts = [simulator.processes[name].host for name in names]
    for part in (hosts[:5], hosts[5:10], hosts[10:]):
        simulator.network.cut(part, [host for host in hosts if host not in part])
    simulator.run(60)
    for name in (names[1], names[7]):
        simulator.crash(name)
    simulator.network.heal()
    assert simulator.run_until(simulator.agree, 90)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_name_is_restarted_repeatedly(seed):
    simulator, names = make(seed, 6)
    for number in range(20):
        simulator.crash(names[5])
        simulator.run(simulator.choose.choice([0.0, 0.5, 20.0]))
        simulator.start(names[5], [names[0]], None if number % 2 else simulator.new_address())
        assert simulator.run_until(simulator.agree, 40), number
    assert events(simulator, NameTaken) == []


def test_a_second_live_node_of_one_name_is_refused():
    simulator, names = make(1, 3)
    simulator.run(2)
    first = simulator.processes[names[1]]
    second = simulator.start(names[1], [names[0]], simulator.new_address())
    simulator.run(5)
    (refused,) = events(simulator, NameTaken)
    assert refused.event == NameTaken(first.machine.me.address)
    assert second.machine.deadline == float("inf")
    assert simulator.processes[names[0]].machine.get(names[1]).address == first.machine.me.address


def test_another_cluster_is_not_joined():
    simulator, names = make(1, 2)
    simulator.start("outsider", [names[0]], label="other")
    simulator.run(5)
    refused = events(simulator, JoinRefused)
    assert refused[0].event.label == "sim"
    assert all(state.live for state in simulator.sees(names[0]).values())
    assert "outsider" not in simulator.sees(names[0])


@pytest.mark.parametrize("seed", SEEDS)
def test_keys_are_rotated_by_a_rolling_restart(seed):
    print(f"seed {seed}")
    simulator = Simulator(seed)
    old, new = b"o" * 32, b"n" * 32
    names = simulator.form(5, keys=(old,))
    simulator.run(3)
    for keys in ((old, new), (new, old), (new,)):
        for index, name in enumerate(names):
            simulator.leave(name)
            simulator.run(0.5)
            process = simulator.start(name, [names[index - 1]], keys=keys)
            assert simulator.run_until(lambda process=process: process.machine.joined and simulator.agree(), 20)
    assert not events(simulator, Died)
    assert all(process.machine.counts["dropped: wrong key"] == 0 for process in simulator.up())


def test_a_leave_is_no_failure():
    simulator, names = make(1, 8)
    simulator.run(2)
    simulator.leave(names[2])
    simulator.run(3)
    assert simulator.processes[names[2]].down
    assert {happened.observer for happened in events(simulator, Left)} == set(names) - {names[2]}
    assert events(simulator, Died) == []
    simulator.start(names[2], [names[0]])
    assert simulator.run_until(simulator.agree, 10)


def test_metadata_and_user_messages_reach_the_others():
    simulator, names = make(1, 8)
    process = simulator.processes[names[0]]
    simulator.at(1.0, lambda: simulator.take(process, SetMeta(b"new")))
    simulator.run(3)
    assert {happened.observer for happened in events(simulator, Changed)} == set(names[1:])
    simulator.take(process, SendUser(names[5], b"hello"))
    simulator.run(1)
    (told,) = events(simulator, UserMessage)
    assert (told.observer, told.event) == (names[5], UserMessage(names[0], b"hello"))


def test_a_quiet_cluster_sends_two_messages_a_second():
    for members in (3, 50):
        simulator, _ = make(1, members)
        simulator.run(300)
        assert 2.0 <= simulator.counts["datagrams"] / members / 300 <= 2.05
        assert simulator.happened == []


# One machine.


@attrs.define
class Lone:
    """A machine that a test drives, and its outputs."""

    machine: Swim
    envelope: Envelope
    now: float = 0.0

    def hear(self, *messages, source=("10.0.0.9", 1)):
        packet = self.envelope.seal(join(map(encode, messages)))
        return self.machine.handle(self.now, Datagram(source, packet))

    def pass_time(self, seconds):
        """Deliver ticks when they are due; returns all outputs."""
        outputs, end = [], self.now + seconds
        while self.machine.deadline <= end:
            self.now = max(self.now, self.machine.deadline)
            outputs += self.machine.handle(self.now, Tick())
        self.now = end
        return outputs


@pytest.fixture
def lone():
    envelope = Envelope("t")
    records = [Record(name, 5, State.ALIVE, (f"10.0.0.{index}", 1)) for index, name in enumerate(["me", "a", "b"])]
    machine = Swim(
        name="me",
        address=("10.0.0.0", 1),
        now=0.0,
        envelope=envelope,
        choose=random.Random(1),
        base=snapshot(records),
    )
    return Lone(machine, envelope)


def test_old_suspicion_does_not_raise_the_incarnation(lone):
    lone.hear(Suspect("me", 4, "a"))
    assert lone.machine.me.incarnation == 5
    lone.hear(Suspect("me", 5, "a"))
    assert lone.machine.me.incarnation == 6
    lone.hear(Dead("me", 9, "a"))
    assert (lone.machine.me.incarnation, lone.machine.me.state) == (10, State.ALIVE)


def test_a_leave_that_arrives_before_its_member_outdates_older_news(lone):
    lone.hear(Dead("z", 3, "z"))
    lone.hear(Alive(Record("z", 3, State.ALIVE, ("10.0.0.7", 1))))
    assert lone.machine.get("z").state is State.LEFT
    lone.hear(Alive(Record("z", 4, State.ALIVE, ("10.0.0.7", 1))))
    assert lone.machine.get("z").state is State.ALIVE


def test_a_ping_for_another_node_is_not_answered(lone):
    assert lone.hear(Ping(1, "somebody", "a")) == []
    assert len(lone.hear(Ping(1, "me", "a"))) == 1
    assert lone.machine.counts["dropped: wrong node"] == 1


def test_a_table_that_calls_a_member_dead_makes_it_suspected(lone):
    dead = Record("a", 5, State.DEAD, ("10.0.0.1", 1))
    frame = lone.envelope.seal(join([encode(Table((dead,)))]))
    lone.machine.handle(0.0, Request(1, frame))  # without a Sync before it: ignored
    assert lone.machine.get("a").state is State.ALIVE
    lone.machine.handle(0.0, Request(1, lone.envelope.seal(join([encode(Sync(0, False, "b"))]))))
    lone.machine.handle(0.0, Request(1, frame))
    assert lone.machine.get("a").state is State.SUSPECT


def test_relayed_pings_are_bounded(lone):
    for seq in range(RELAYS_MAX + 50):
        lone.hear(IndirectPing(seq, "a", ("10.0.0.1", 1), "b"))
    assert lone.machine.counts["relays refused"] == 50


def test_probes_never_overlap(lone):
    asked = [output for output in lone.pass_time(60) if isinstance(output, Send)]
    assert asked
    assert lone.machine.counts["failed probes"] >= 2
    assert {record.name for record in lone.machine.members if record.state.live} == {"me"}


@pytest.mark.parametrize("seed", range(5))
def test_noise_raises_nothing_and_leaves_nothing(lone, seed):
    print(f"seed {seed}")
    chance = random.Random(seed)
    good = lone.envelope.seal(join([encode(Ping(1, "me", "a")), encode(Suspect("a", 5, "b"))]))
    for _ in range(3_000):
        packet = bytearray(good if chance.random() < 0.5 else chance.randbytes(chance.randrange(60)))
        for _ in range(chance.randrange(4)):
            if packet:
                packet[chance.randrange(len(packet))] = chance.randrange(256)
        data = bytes(packet[: chance.randrange(len(packet) + 1)] if chance.random() < 0.5 else packet)
        kind = chance.choice([lambda d: Datagram(("10.0.0.1", 1), d), lambda d: Request(1, d), lambda d: Answer(1, d)])
        lone.now += 0.001
        lone.machine.handle(lone.now, kind(data))
    lone.machine.handle(lone.now, Datagram(("10.0.0.1", 1), b"x" * 5_000))
    assert lone.machine.counts["dropped: too large"] == 1
    assert len(list(lone.machine.members)) == 3
    assert len(lone.machine.counts) < 30
