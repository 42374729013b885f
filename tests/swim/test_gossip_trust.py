"""What a member trusts: vouched members, plausible incarnations, and well-formed questions."""

from __future__ import annotations

import random

import attrs
import pytest
import trio

from orchy.swim.codec import decode, encode, join
from orchy.swim.core import Introducer
from orchy.swim.envelope import Envelope
from orchy.swim.machine import Swim
from orchy.swim.messages import (
    Ack,
    Alive,
    Answer,
    AskStore,
    Datagram,
    Dead,
    Join,
    Ping,
    Reconnect,
    Record,
    Refused,
    Request,
    Respond,
    State,
    StoreAt,
    StreamFailed,
    Suspect,
    Sync,
    Table,
    Tick,
    User,
    Vouch,
)
from orchy.swim.messages import Connect as Opened
from orchy.swim.notifications import (
    Implausible,
    Joined,
    JoinRefused,
    JoinUnanswered,
    NameClaimed,
    Unvouched,
    UserMessage,
)
from orchy.swim.parameters import INCARNATION_AHEAD_MAX, INCARNATION_MAX, UNVOUCHED_MAX, UNVOUCHED_SECONDS
from orchy.swim.udp import Driver, boottime, open_sockets

LABEL, PUBLIC = Envelope("ns/64/1/identity"), Envelope("ns/64/1/")
EPOCH = 1_000_000.0
HERE = ("10.0.0.1", 1)


def record(name, incarnation=5, state=State.ALIVE, port=1, meta=b""):
    return Record(name, incarnation, state, (f"10.0.1.{port % 250}", port), meta)


@attrs.define
class Member:
    """A machine that vouches for the names in `known`."""

    known: set[str] = attrs.field(factory=set)
    envelope: Envelope = LABEL
    introducer: Introducer | None = attrs.field(factory=lambda: Introducer(PUBLIC, "redis:h:1"))
    now: float = 0.0
    machine: Swim = None

    def __attrs_post_init__(self):
        self.machine = Swim(
            name="me",
            address=HERE,
            now=self.now,
            envelope=self.envelope,
            choose=random.Random(1),
            epoch=EPOCH,
            vouched=lambda record: record.name in self.known,
            yields=False,
            introducer=self.introducer,
        )
        self.machine.handle(self.now, Join(()))

    def hear(self, *messages):
        """The events that follow from a packet."""
        packet = self.envelope.seal(join(map(encode, messages)))
        return self.give(Datagram(("10.0.0.9", 1), packet))

    def give(self, item):
        return [output for output in self.machine.handle(self.now, item) if type(output).__name__ != "Send"]

    @property
    def names(self):
        return {member.name for member in self.machine.members}


def test_a_member_that_is_not_vouched_for_waits():
    member = Member()
    assert member.hear(Alive(record("a"))) == [Unvouched(record("a"))]
    assert member.hear(Alive(record("a", 6))) == []  # it is waiting already
    assert member.names == {"me"}
    member.known.add("a")
    assert member.give(Vouch()) == [Joined(record("a", 6))]
    assert member.names == {"me", "a"}


def test_two_that_claim_one_name_wait_beside_each_other():
    member = Member()
    fake = attrs.evolve(record("a", 99), address=("10.6.6.6", 6))
    member.hear(Alive(record("a")), Alive(fake))
    member.machine._core.vouched = lambda member: member.address == record("a").address
    assert member.give(Vouch()) == [Joined(record("a"))]


def test_unvouched_members_are_bounded_and_forgotten():
    member = Member()
    for number in range(3 * UNVOUCHED_MAX):
        member.now += 0.02
        member.hear(Alive(record(f"a{number}", port=number)))
    member.known.update(f"a{number}" for number in range(3 * UNVOUCHED_MAX))
    member.give(Vouch())
    assert member.names == {"me"} | {f"a{number}" for number in range(2 * UNVOUCHED_MAX, 3 * UNVOUCHED_MAX)}
    crowd = Member()
    for number in range(3 * UNVOUCHED_MAX):  # at once: those over the limit must repeat it
        crowd.hear(Alive(record(f"a{number}", port=number)))
    crowd.known = member.known
    crowd.give(Vouch())
    assert crowd.names == {"me"} | {f"a{number}" for number in range(UNVOUCHED_MAX)}
    late = Member()
    late.hear(Alive(record("a")))
    late.now += UNVOUCHED_SECONDS + 1
    late.known.add("a")
    assert late.give(Vouch()) == []
    assert len(late.machine._rumours._unvouched) == 0
    assert late.hear(Alive(record("a"))) == [Joined(record("a"))]


def test_a_member_is_not_replaced_by_an_unvouched_one():
    member = Member()
    member.machine._core.vouched = lambda member: member.meta == b"real"
    member.hear(Alive(record("a", meta=b"real")))
    member.hear(Alive(record("a", 50, meta=b"fake")))
    assert member.machine.get("a") == record("a", meta=b"real")


def test_unvouched_members_leave_no_state_behind():
    member = Member()
    frame = LABEL.seal(join([encode(Sync(0, False, "x"))]))
    table = Table(tuple(record(f"x{state}", 5, state) for state in State))
    member.hear(Dead("x", 5, "x"), Dead("y", 5, "z"), Suspect("z", 5, "y"))
    member.give(Request(1, frame))
    member.give(Request(1, LABEL.seal(join([encode(table)]))))
    assert member.names == {"me"}


def test_accusers_that_are_no_members_do_not_shorten_a_suspicion():
    member = Member({"a", "b", "c", "d", "e"})
    member.hear(*[Alive(record(name)) for name in "abcde"])
    member.hear(Suspect("a", 5, "b"))
    (suspicion,) = member.machine._rumours._suspicions.values()
    before = suspicion.seconds
    member.hear(*[Suspect("a", 5, f"nobody{number}") for number in range(4)])
    assert suspicion.seconds == before
    member.hear(Suspect("a", 5, "c"))
    assert suspicion.seconds < before


@pytest.mark.parametrize("incarnation", [INCARNATION_MAX, int(EPOCH) + INCARNATION_AHEAD_MAX + 1])
def test_an_implausible_incarnation_is_dropped(incarnation):
    member = Member({"a"})
    member.hear(Alive(record("a")))
    mine = member.machine.me
    for message, name in [
        (Alive(record("a", incarnation)), "a"),
        (Suspect("a", incarnation, "b"), "a"),
        (Dead("a", incarnation, "b"), "a"),
        (Dead("a", incarnation, "a"), "a"),
        (Dead("me", incarnation, "b"), "me"),
        (Suspect("me", incarnation, "b"), "me"),
        (Alive(attrs.evolve(mine, incarnation=incarnation)), "me"),
    ]:
        assert member.hear(message) == [Implausible(name, incarnation)]
    assert member.machine.get("a") == record("a")
    assert member.machine.me == mine


def test_a_restarted_member_is_newer_than_anything_said_of_it_the_day_before():
    first = Member()
    first.hear(Dead("me", int(EPOCH) + INCARNATION_AHEAD_MAX, "b"))
    poisoned = first.machine.me.incarnation
    assert poisoned == int(EPOCH) + INCARNATION_AHEAD_MAX + 1  # it objects, even if others accept that only later
    assert Member(now=INCARNATION_AHEAD_MAX + 60.0).machine.me.incarnation > poisoned
    other = Member({"me2"}, now=2.0)
    assert other.hear(Alive(record("me2", poisoned))) == [Joined(record("me2", poisoned))]  # a second later, or two


def test_a_held_name_is_not_given_up():
    member = Member()
    before = member.machine.me
    rival = Record("me", before.incarnation + 7, State.ALIVE, ("10.6.6.6", 6))
    assert member.hear(Alive(rival)) == [NameClaimed(("10.6.6.6", 6))]  # it asks nobody, and keeps the name
    assert member.machine.me == attrs.evolve(before, incarnation=before.incarnation + 8)


def test_a_settled_member_never_yields_to_a_packet():
    member = Swim(name="me", address=HERE, now=0.0, envelope=LABEL, choose=random.Random(1))
    member.handle(0.0, Join(()))
    rival = Record("me", 50, State.ALIVE, ("10.6.6.6", 6))
    packet = LABEL.seal(join([encode(Alive(rival))]))
    (question,) = [out for out in member.handle(0.0, Datagram(HERE, packet)) if isinstance(out, Opened)]
    (ping,) = decode(LABEL.open(question.data))
    assert isinstance(ping, Ping)
    member.handle(0.1, Answer(question.stream, LABEL.seal(join([encode(Ack(ping.seq))]))))
    assert member.me.incarnation == 51
    assert member.handle(5.0, Tick()) is not None
    assert member.deadline < float("inf")


def answer_of(outputs):
    (respond,) = [output for output in outputs if isinstance(output, Respond)]
    return respond.data


def test_a_question_for_the_store_is_answered_and_nothing_else():
    member = Member()
    question = PUBLIC.seal(join([encode(AskStore(77))]))
    assert decode(PUBLIC.open(answer_of(member.give(Request(1, question))))) == [StoreAt(77, "redis:h:1")]
    for message in (Sync(0, True, "x"), Ping(1, "me", "x"), Table((record("a"),))):
        assert member.give(Request(1, PUBLIC.seal(join([encode(message)])))) == []


@pytest.mark.parametrize("keys", [(), (b"k" * 16,)], ids=["plain", "key"])
def test_frames_of_other_clusters_are_answered_only_with_this_ones_label(keys):
    """On this host, or with the key: the label without the identity. Otherwise nothing."""
    member = Member(
        envelope=Envelope("ns/64/1/identity", keys), introducer=Introducer(Envelope("ns/64/1/", keys), "redis:h:1")
    )
    asks = join([encode(Sync(0, True, "x"))])
    other = Envelope("other/64/1/0", keys).seal(asks)
    other_key = Envelope("ns/64/1/identity", [b"o" * 16]).seal(asks)
    noise = [b"", b"GET / HTTP/1.1\r\n", b"\x09" + other[1:], other[:9]]
    for local in (False, True):
        for packet in noise:
            assert member.give(Request(1, packet, local)) == []
        answers = member.give(Request(1, other, local))
        assert bool(answers) == (local or bool(keys))
        if answers:
            assert b"identity" not in answer_of(answers)
            assert answer_of(answers)[3:].startswith(b"ns/64/1/")
            assert decode(Envelope("x", keys).open_foreign(answer_of(answers))) == [Refused()]
        assert bool(member.give(Request(1, other_key, local))) == local


def test_a_joiner_learns_why_it_is_refused():
    joiner = Swim(name="j", address=HERE, now=0.0, envelope=LABEL, choose=random.Random(1))
    seed = ("10.0.0.8", 8)
    (opened,) = [out for out in joiner.handle(0.0, Join((seed,))) if isinstance(out, Opened)] or [
        out for out in joiner.handle(0.0, Tick()) if isinstance(out, Opened)
    ]
    assert joiner.handle(0.1, StreamFailed(opened.stream, hung_up=True)) == [JoinUnanswered(seed)]
    (opened,) = [out for out in joiner.handle(9.0, Tick()) if isinstance(out, Opened)]
    refused = Envelope("ns/64/1/").seal(join([encode(Refused())]))
    assert joiner.handle(9.1, Answer(opened.stream, refused)) == [JoinRefused(seed, "ns/64/1/", opened=True)]


def test_an_unknown_address_of_the_registry_is_tried_at_once():
    member = Member({"a"})
    member.hear(Alive(record("a")))
    member.now = 1.0
    known, new = record("a").address, ("10.0.2.2", 2)
    calls = [out.address for out in member.give(Reconnect((known, HERE, new))) if isinstance(out, Opened)]
    assert calls == [new]


async def test_an_unexpected_error_ends_one_datagram_only(caplog):
    """In the machine, in the handling of an event, in a timer, on a stream."""
    sockets = await open_sockets("127.0.0.1", 0)
    machine = Swim(name="me", address=sockets.address, now=boottime(), envelope=LABEL)
    events = []

    def on_event(event):
        events.append(event)
        raise RuntimeError("of the application")

    driver = Driver(machine, sockets, on_event)
    good = machine.handle
    broken = True

    def handle(now, item):
        if broken and not isinstance(item, Datagram):
            raise RuntimeError("of the machine")
        return good(now, item)

    machine.handle = handle
    async with trio.open_nursery() as nursery:
        nursery.start_soon(driver.run)
        with trio.fail_after(30):
            stream = await trio.open_tcp_stream(*sockets.address)
            async with stream:
                frame = LABEL.seal(join([encode(Sync(0, True, "x"))]))
                await stream.send_all(len(frame).to_bytes(4, "big") + frame)
                assert await stream.receive_some(1) == b""
            packet = LABEL.seal(join([encode(User("x", b"1")), encode(User("x", b"2"))]))
            sender = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
            await sender.sendto(packet, sockets.address)
            while len(events) < 2 or driver.counts["errors"] < 5:
                await trio.sleep(0.01)
            broken = False
            assert events == [UserMessage("x", b"1"), UserMessage("x", b"2")]
            async with await trio.open_tcp_stream(*sockets.address) as stream:
                await stream.send_all(len(frame).to_bytes(4, "big") + frame)
                assert await stream.receive_some(1)
            sender.close()
        nursery.cancel_scope.cancel()
    await sockets.aclose()
    assert len([line for line in caplog.records if "nobody foresaw" in line.message]) == 1
