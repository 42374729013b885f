"""Death by evidence: a process is gone and its host says so; anything less changes nothing."""

from __future__ import annotations

import random

import attrs
import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchy.swim.codec import decode, encode, join
from orchy.swim.envelope import Envelope
from orchy.swim.machine import Swim
from orchy.swim.members import snapshot
from orchy.swim.messages import (
    Ack,
    Alive,
    Answer,
    Closed,
    Connect,
    Datagram,
    Dead,
    Leave,
    Ping,
    Record,
    Send,
    SendUser,
    State,
    StreamFailed,
    Suspect,
    Tick,
    Unreachable,
)
from orchy.swim.notifications import Died, Left, Witnessed
from orchy.swim.parameters import PROFILES, REFUSAL_CASES_MAX
from orchy.swim.simulator import Network, Simulator

SEEDS = range(6)
#: From the first refusal to the death: 0.5 s of refusals, one connection, one datagram.
EVIDENCE_SECONDS = 0.6


def address(name):
    return f"10.0.0.{name}", 1


class Lone:
    """A machine whose peers the test plays. It probes nobody by itself, so that all it sends is about a case."""

    def __init__(self, others="ab"):
        self.envelope = Envelope("t")
        self.records = {name: Record(name, 5, State.ALIVE, address(name)) for name in ["me", *others]}
        quiet = {"probe_interval_seconds": 1e6, "sync_interval_seconds": 1e6, "reconnect_interval_seconds": 1e6}
        self.machine = Swim(
            name="me",
            address=address("me"),
            now=0.0,
            envelope=self.envelope,
            parameters=attrs.evolve(PROFILES["default"], **quiet),
            choose=random.Random(1),
            base=snapshot(list(self.records.values())),
        )
        self.machine.handle(0.0, Tick())
        self.now = 0.0
        self.outputs = []

    def take(self, item):
        self.outputs += self.machine.handle(self.now, item)

    def hear(self, *messages, source="b"):
        self.take(Datagram(address(source), self.envelope.seal(join(map(encode, messages)))))

    def refuse(self, name="a"):
        self.take(Unreachable(address(name)))

    def pass_time(self, seconds, refusing=""):
        """Deliver ticks when they are due; refusing hosts answer at once."""
        end = self.now + seconds
        while self.machine.deadline <= end:
            self.now = max(self.now, self.machine.deadline)
            before = len(self.outputs)
            self.take(Tick())
            for output in self.outputs[before:]:
                for name in refusing:
                    if isinstance(output, Send) and output.address == address(name):
                        self.refuse(name)
        self.now = end

    def said(self, kind):
        """(target, message) of all sent messages of a type."""
        return [
            (output.address[0].removeprefix("10.0.0."), message)
            for output in self.outputs
            if isinstance(output, Send)
            for message in decode(self.envelope.open(output.data))
            if isinstance(message, kind)
        ]

    def events(self, *kinds):
        return [output for output in self.outputs if isinstance(output, kinds or (Died, Witnessed, Left))]

    @property
    def streams(self):
        return [output for output in self.outputs if isinstance(output, Connect)]

    def refuse_stream(self):
        self.take(StreamFailed(self.streams[-1].stream, refused=True))

    def state(self, name="a"):
        return self.machine.get(name).state


def refused_for_half_a_second(others="ab"):
    """A machine that lacks only the refused stream to be a witness; it has opened the stream."""
    lone = Lone(others)
    lone.refuse()
    lone.pass_time(0.55, "a")
    assert lone.state() is State.ALIVE
    (stream,) = lone.streams
    assert stream.address == address("a")
    return lone


def test_refusals_for_half_a_second_and_over_tcp_seen_by_two_are_a_death():
    lone = refused_for_half_a_second()
    assert ("b", Closed("a", 5, "me", False)) in lone.said(Closed)
    lone.refuse_stream()
    assert ("b", Closed("a", 5, "me", True)) in lone.said(Closed)
    assert lone.state() is State.ALIVE  # one witness
    lone.hear(Closed("a", 5, "b", sure=False))
    assert lone.state() is State.ALIVE
    lone.hear(Closed("a", 5, "b", sure=True))
    assert lone.state() is State.DEAD
    (died,) = lone.events()
    assert died == Died(attrs.evolve(lone.records["a"], state=State.DEAD), "me", witnessed=True)
    assert ("b", Dead("a", 5, "me", refused=True)) in lone.said(Dead)


def test_the_other_witness_may_come_first():
    lone = Lone()
    lone.hear(Closed("a", 5, "b", sure=True))
    assert [to for to, _ in lone.said(Ping)] == ["a"]  # it checks for itself
    assert lone.events() == []
    lone.refuse()
    lone.pass_time(0.55, "a")
    lone.refuse_stream()
    assert [died.witnessed for died in lone.events(Died)] == [True]


def test_one_witness_suffices_without_other_members():
    lone = refused_for_half_a_second("a")
    lone.refuse_stream()
    assert [died.witnessed for died in lone.events(Died)] == [True]


def test_claims_of_others_are_not_believed():
    lone = Lone("abc")
    for _ in range(5):
        lone.hear(Closed("a", 5, "b", sure=True), Closed("a", 5, "c", sure=True))
        lone.pass_time(1.0)
    assert lone.events() == []
    assert lone.state() is State.ALIVE
    assert lone.streams == []


@pytest.mark.parametrize("source", ["a", "me", "stranger"])
def test_only_another_live_member_is_a_witness(source):
    lone = refused_for_half_a_second()
    lone.refuse_stream()
    lone.hear(Closed("a", 5, source, sure=True))
    assert lone.events() == []


def test_a_refusal_over_udp_alone_is_no_evidence():
    lone = refused_for_half_a_second()
    lone.hear(Closed("a", 5, "b", sure=True))
    lone.take(StreamFailed(lone.streams[-1].stream))  # no answer: a frozen host, or a network that is cut by now
    lone.pass_time(1.0)
    assert lone.events() == []


def test_a_refusal_over_tcp_alone_is_no_evidence():
    lone = Lone()
    lone.hear(Closed("a", 5, "b", sure=True))
    lone.pass_time(5.0)
    assert lone.streams == []  # TCP is tried only after a refusal over UDP
    assert lone.events() == []


def test_two_refusals_at_once_count_as_one():
    lone = Lone("a")
    lone.refuse()
    lone.now = 0.1
    lone.refuse()
    assert lone.streams == []


CONTRADICTIONS = {
    "an ack": lambda lone: lone.hear(Ack(lone.said(Ping)[-1][1].seq), source="a"),
    "a stream that is answered": lambda lone: lone.take(Answer(lone.streams[-1].stream, b"anything")),
    "a packet from its address": lambda lone: lone.hear(Suspect("b", 1, "a"), source="a"),
    "a ping in its name": lambda lone: lone.hear(Ping(1, "me", "a"), source="elsewhere"),
    "a newer incarnation": lambda lone: lone.hear(Alive(attrs.evolve(lone.records["a"], incarnation=6))),
    "another address": lambda lone: lone.hear(Alive(attrs.evolve(lone.records["a"], incarnation=6, address=("h", 2)))),
    "a goodbye": lambda lone: lone.hear(Dead("a", 5, "a")),
}


@pytest.mark.parametrize("contradiction", CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_any_answer_ends_a_case(contradiction):
    lone = refused_for_half_a_second()
    lone.hear(Closed("a", 5, "b", sure=True))
    contradiction(lone)
    lone.refuse_stream()
    lone.hear(Closed("a", 5, "b", sure=True))
    assert lone.events(Died, Witnessed) == []


def test_after_a_late_packet_the_evidence_starts_over():
    lone = Lone("a")
    lone.refuse()
    lone.hear(Suspect("b", 1, "a"), source="a")
    lone.pass_time(0.7, "a")
    assert lone.streams == []
    lone.pass_time(0.2, "a")
    lone.refuse_stream()
    assert lone.state() is State.DEAD


def test_a_refusal_at_another_port_or_of_no_member_is_no_evidence():
    lone = Lone("a")
    for where in (("10.0.0.a", 2), ("10.0.0.z", 1), address("me")):
        lone.take(Unreachable(where))
        lone.pass_time(1.0)
    assert lone.outputs == []


def test_evidence_against_an_old_incarnation_does_not_affect_the_new_one():
    lone = Lone()
    lone.hear(Alive(attrs.evolve(lone.records["a"], incarnation=6)))
    lone.hear(Closed("a", 5, "b", sure=True))
    lone.hear(Closed("a", 7, "b", sure=True))
    assert lone.said(Ping) == []


def test_a_death_by_hearsay_is_believed_and_then_checked():
    lone = Lone()
    lone.hear(Dead("a", 5, "b", refused=True))
    assert [(type(event), event.witnessed) for event in lone.events()] == [(Died, False)]
    lone.refuse()
    lone.pass_time(0.55, "a")
    lone.refuse_stream()
    assert [type(event) for event in lone.events()] == [Died, Witnessed]
    assert all(message.refused for _, message in lone.said(Dead))  # with the reason


def test_a_forged_death_is_not_witnessed():
    lone = Lone()
    lone.hear(Dead("a", 5, "b", refused=True))
    lone.hear(Ack(lone.said(Ping)[-1][1].seq), source="a")
    lone.pass_time(3.0)
    assert lone.events(Witnessed) == []


def test_an_undecided_case_is_dropped():
    lone = refused_for_half_a_second()
    lone.refuse_stream()
    lone.pass_time(5.0, "a")
    lone.hear(Closed("a", 5, "b", sure=True))
    assert lone.events() == []
    lone.pass_time(5.0)
    lone.outputs.clear()
    lone.pass_time(60.0)
    assert lone.said(Ping) == []


def test_a_refusing_member_gets_no_user_messages():
    lone = Lone()
    lone.refuse()
    lone.outputs.clear()
    lone.take(SendUser("a", b"hello"))
    assert lone.outputs == []
    lone.hear(Ack(0), source="a")
    lone.take(SendUser("a", b"hello"))
    assert len(lone.outputs) == 1


def test_cases_are_bounded():
    names = [chr(0x4E00 + number) for number in range(REFUSAL_CASES_MAX + 10)]
    lone = Lone(names)
    for name in names:
        lone.refuse(name)
    assert lone.machine.counts["evidence refused"] == 10


def test_a_leaving_member_accuses_nobody():
    lone = Lone("a")
    lone.refuse()
    lone.take(Leave())
    lone.pass_time(1.0, "a")
    assert lone.streams == []
    assert lone.events(Died) == []


def test_older_versions_ignore_unknown_fields_and_messages():
    """They read the fields of a death that they know, and ignore a message of an unknown type."""
    assert msgpack.unpackb(encode(Dead("a", 5, "b", refused=True)))[:4] == [7, "a", 5, "b"]
    assert encode(Dead("a", 5, "b")) == msgpack.packb((7, "a", 5, "b"))
    assert decode(msgpack.packb([[7, "a", 5, "b", 1, "newer"]])) == [Dead("a", 5, "b")]


ANYTHING = st.one_of(
    st.builds(Closed, st.sampled_from(["a", "b", "me", "z"]), st.integers(4, 6), st.sampled_from("abz"), st.booleans()),
    st.builds(Unreachable, st.sampled_from([address(name) for name in ["a", "b", "me", "z"]])),
    st.builds(StreamFailed, st.integers(0, 4), st.booleans()),
    st.builds(Dead, st.sampled_from("ab"), st.integers(4, 6), st.sampled_from(["me", "b"]), st.just(True)),
    st.floats(0.0, 0.6),
)


@given(st.lists(ANYTHING, max_size=40))
def test_no_evidence_against_a_member_that_answers(items):
    """Despite arbitrary refusals and claims, it is never a witness against a member that acks each ping and stream."""
    lone = Lone("abc")
    for item in items:
        match item:
            case float():
                lone.pass_time(item)
            case Closed() | Dead():
                lone.hear(item, source="c")
            case _:
                lone.take(item)
        for to, ping in lone.said(Ping):
            lone.hear(Ack(ping.seq), source=to)
        lone.outputs = [output for output in lone.outputs if not isinstance(output, Send)]
        assert not any(isinstance(output, Witnessed) for output in lone.outputs)
        assert not any(isinstance(output, Died) and output.witnessed for output in lone.outputs)


# Whole clusters in virtual time.


def make(seed, members, network=None):
    print(f"seed {seed}")
    simulator = Simulator(seed, network)
    names = simulator.form(members)
    simulator.run(5 + simulator.choose.random())
    return simulator, names


@pytest.mark.parametrize("members", [2, 3, 5, 30])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_killed_process_is_known_at_once(seed, members):
    simulator, names = make(seed, members)
    simulator.crash(names[-1])
    for name in names[:-1]:  # under load all send it something
        simulator.take(simulator.processes[name], SendUser(names[-1], b"wake up"))
    simulator.run(EVIDENCE_SECONDS)
    assert simulator.agree()
    simulator.run(0.3)  # members that heard of it before their own evidence was complete complete it soon
    events = [happened for happened in simulator.happened if getattr(happened.event, "witnessed", True)]
    assert sorted(happened.observer for happened in events) == sorted(names[:-1])
    assert {type(happened.event) for happened in events} <= {Died, Witnessed}


@pytest.mark.parametrize("seed", SEEDS)
def test_one_refused_member_starts_the_investigation(seed):
    simulator, names = make(seed, 5)
    simulator.crash(names[-1])
    simulator.take(simulator.processes[names[0]], SendUser(names[-1], b"wake up"))
    simulator.run(EVIDENCE_SECONDS)
    assert simulator.agree()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_silent_host_is_left_to_suspicion(seed):
    simulator, names = make(seed, 3)
    simulator.power_off(names[-1])
    simulator.run(3)
    assert all(state.live for state in simulator.sees(names[0]).values())
    assert simulator.run_until(simulator.agree, 40)
    assert not any(getattr(happened.event, "witnessed", False) for happened in simulator.happened)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_network_that_is_cut_gives_no_evidence(seed):
    simulator, names = make(seed, 4)
    hosts = [simulator.processes[name].host for name in names]
    simulator.network.cut(hosts[:2], hosts[2:])
    simulator.network.cut(hosts[2:], hosts[:2])
    simulator.run(60)
    assert any(isinstance(happened.event, Died) for happened in simulator.happened)
    assert not any(getattr(happened.event, "witnessed", False) for happened in simulator.happened)


@pytest.mark.parametrize("loss", [0.0, 0.2])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_process_restarted_within_a_second_does_not_die_twice(seed, loss):
    """It may be dead by evidence while it is down; from its restart on, no member reports it dead."""
    simulator, names = make(seed, 4, Network(loss=loss))
    name = names[-1]
    for _ in range(20):
        simulator.crash(name)
        for other in names[:-1]:
            simulator.take(simulator.processes[other], SendUser(name, b"wake up"))
        simulator.run(simulator.choose.random())
        simulator.start(name, [names[0]])
        began = simulator.now
        joined = simulator.run_until(lambda: simulator.processes[name].machine.joined and simulator.agree(), 60)
        assert joined
        simulator.run(5)
        late = [
            happened
            for happened in simulator.happened
            if isinstance(happened.event, Died) and happened.event.witnessed and happened.at > began + 0.05
        ]
        assert late == []
        assert simulator.agree()
