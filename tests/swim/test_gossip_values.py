"""The pure parts of the gossip: merging beliefs, the probe order, the queue of updates, codecs."""

from __future__ import annotations

import contextlib
import itertools
import math
import random
import tracemalloc
from collections import Counter
from unittest import mock

import attrs
import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchy.swim.broadcast import Broadcasts
from orchy.swim.codec import Malformed, decode, encode, join
from orchy.swim.core import Introducer
from orchy.swim.envelope import Envelope, Unopened
from orchy.swim.machine import Swim
from orchy.swim.members import Members, Snapshot, snapshot
from orchy.swim.messages import (
    Ack,
    Alive,
    Answer,
    AskStore,
    Closed,
    Datagram,
    Dead,
    IndirectPing,
    Nack,
    Output,
    Ping,
    Record,
    Refused,
    Request,
    Same,
    State,
    StoreAt,
    Suspect,
    Sync,
    Table,
    User,
    merge,
)
from orchy.swim.order import Order
from orchy.swim.suspicion import Suspicion

KEY_1, KEY_2 = b"1" * 16, b"2" * 32
NAMES = st.text([chr(code) for code in range(33, 127)], min_size=1, max_size=10)
ADDRESSES = st.tuples(st.sampled_from(["10.0.0.1", "::1"]), st.integers(0, 65_535))
RECORDS = st.builds(
    Record, st.just("a"), st.integers(0, 4), st.sampled_from(list(State)), ADDRESSES, st.binary(max_size=8)
)
ANY_RECORDS = st.builds(
    Record, NAMES, st.integers(0, 2**32 - 1), st.sampled_from(list(State)), ADDRESSES, st.binary(max_size=512)
)
SEQS = st.integers(0, 2**32 - 1)
MESSAGES = st.one_of(
    st.builds(Ping, SEQS, NAMES, NAMES),
    st.builds(Ack, SEQS),
    st.builds(Nack, SEQS),
    st.builds(IndirectPing, SEQS, NAMES, ADDRESSES, NAMES),
    st.builds(Alive, ANY_RECORDS.filter(lambda record: record.state is State.ALIVE)),
    st.builds(Suspect, NAMES, SEQS, NAMES),
    st.builds(Dead, NAMES, SEQS, NAMES, st.booleans()),
    st.builds(Closed, NAMES, SEQS, NAMES, st.booleans()),
    st.builds(User, NAMES, st.binary(max_size=100)),
    st.builds(Sync, st.integers(0, 2**64 - 1), st.booleans(), NAMES),
    st.just(Same()),
    st.builds(Table, st.lists(ANY_RECORDS, max_size=4).map(tuple)),
    st.just(Refused()),
    st.builds(AskStore, st.integers(0, 2**64 - 1)),
    st.builds(StoreAt, st.integers(0, 2**64 - 1), NAMES),
)


@given(RECORDS, RECORDS, RECORDS)
def test_beliefs_merge_in_any_order(one, two, three):
    assert merge(one, two) == merge(two, one)
    assert merge(merge(one, two), three) == merge(one, merge(two, three))
    assert merge(one, one) == one


@given(st.lists(MESSAGES, max_size=20))
def test_messages_survive_encoding_and_decoding(messages):
    assert decode(join(map(encode, messages))) == messages


@given(st.lists(MESSAGES, max_size=20), st.data())
def test_a_large_body_decodes_like_a_small_one(messages, data):
    """Row by row: the same messages, also unknown ones, and the same errors."""
    packed = [*map(encode, messages), msgpack.packb([99, 1, "new"])]
    body = join(packed)
    with mock.patch("orchy.swim.codec.SMALL_BYTES", 0):
        assert decode(body) == messages
        for damaged in (body[: data.draw(st.integers(0, len(body) - 1))], body + b"\xc0"):
            with pytest.raises(Malformed):
                decode(damaged)


@pytest.mark.parametrize(
    "value",
    [b"\xdd\x00\x10\x00\x00" + b"\x80" * 2**20, b"\x91" * 2**20, b"\x91\x92\x0b\xdd\x00\x00\x40\x00" + b"\x90" * 2**20,
     b"\x91\x92\x0b\x91\xdd\x00\x10\x00\x00" + b"\x80" * 2**20, b"\x91\xdd\x00\x10\x00\x00\x0b" + b"\x80" * 2**20,
     b"\x92" + b"\x9f" * 2**20, b"\x91\x92\x0b" + b"\xdf\xff\xff\xff\xff" * 2**18],
    ids=["maps", "deep", "rows of nothing", "one long row", "one long message", "deep and wide", "long maps"],
)  # fmt: skip
def test_claimed_sizes_in_a_frame_cost_nothing(value):
    tracemalloc.start()
    try:
        with pytest.raises(Malformed):
            decode(value)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * len(value)


#: A value of each msgpack type, and the ends of their ranges.
STRANGE = [
    None, True, -1, 2**63, 2**64 - 1, -(2**63), 0.5, float("inf"), float("-inf"), float("nan"), "", "x" * 2_000, "a b",
    "a\nb", "\x1b[31m", "\u202e", "\udc80", b"", b"x" * 1_000, [], [[]], [1] * 50, {}, {"a": 1}, {b"": [None]},
    msgpack.ExtType(5, b"x"), msgpack.Timestamp(2**33, 1), msgpack.ExtType(127, b""), "1.2.3.4", 5,
]  # fmt: skip


def mangled(message):
    """The message with each field in turn replaced by each odd value; and truncated."""
    fields = msgpack.unpackb(encode(message))
    for place in range(len(fields)):
        yield fields[:place]
        for value in STRANGE:
            yield [*fields[:place], value, *fields[place + 1 :]]
    if isinstance(message, Table):
        for row in mangled_rows(fields[1][0]):
            yield [fields[0], [row]]


def mangled_rows(row):
    for place in range(len(row)):
        yield row[:place]
        for value in STRANGE:
            yield [*row[:place], value, *row[place + 1 :]]


RECORD = Record("a", 7, State.ALIVE, ("10.0.0.1", 1), b"m")
EACH = [
    Ping(1, "me", "a"), Ack(1), Nack(1), IndirectPing(1, "a", ("10.0.0.1", 1), "b"), Alive(RECORD),
    Suspect("a", 7, "b"),
    Dead("a", 7, "b"), User("a", b"x"), Sync(1, False, "a"), Same(), Table((RECORD,)), Refused(), AskStore(1),
    StoreAt(1, "redis:h:1"),
]  # fmt: skip


def pack_strange(fields):
    try:
        return msgpack.packb(fields, unicode_errors="surrogatepass")
    except (OverflowError, ValueError):
        return None


@pytest.mark.parametrize("message", EACH, ids=lambda message: type(message).__name__)
def test_each_type_in_each_field_is_accepted_or_dropped(message):
    """Through the whole machine, as packet, request and answer. Accepted values can be logged and sent on."""
    envelope = Envelope("t")
    machine = Swim(
        name="me",
        address=("10.0.0.9", 1),
        now=0.0,
        envelope=envelope,
        choose=random.Random(1),
        base=snapshot([attrs.evolve(RECORD, name=name) for name in ("me", "a", "b")]),
        introducer=Introducer(Envelope("d"), "redis:h:1"),
    )
    taken = 0
    for fields in mangled(message):
        packed = pack_strange(fields)
        if packed is None:
            continue
        for seal in (envelope.seal, Envelope("d").seal):
            packet = seal(b"\x91" + packed)
            for item in (
                Datagram(("10.0.0.1", 1), packet),
                Request(1, packet),
                Request(1, packet, True),
                Answer(1, packet),
            ):
                taken += 1
                for output in machine.handle(taken * 1e-5, item):
                    assert isinstance(output, Output)
    assert taken > 0
    for record in machine.members:
        assert record.name.isascii()
        assert record.name.isprintable()
        assert decode(join([encode(Table((record,)))])) == [Table((record,))]
    assert machine.counts["dropped: malformed"] > 0
    assert len(machine.counts) < 30


@given(st.lists(MESSAGES, min_size=1, max_size=4), st.data())
def test_a_truncated_packet_is_refused_at_each_byte(messages, data):
    body = join(map(encode, messages))
    cut = data.draw(st.integers(0, len(body) - 1))
    with pytest.raises(Malformed):
        decode(body[:cut])


@given(st.binary(max_size=200))
def test_noise_does_not_decode(noise):
    with contextlib.suppress(Malformed):
        decode(noise)


@pytest.mark.parametrize("keys", [(), (KEY_1,)])
@given(body=st.binary(max_size=100), bit=st.integers(0, 10_000))
def test_a_packet_with_a_bit_flipped_is_not_opened(keys, body, bit):
    envelope = Envelope("orchy/64/1", keys)
    packet = bytearray(envelope.seal(body))
    assert envelope.open(bytes(packet)) == body
    packet[bit // 8 % len(packet)] ^= 1 << bit % 8
    with pytest.raises(Unopened):
        envelope.open(bytes(packet))
    with pytest.raises(Unopened):
        envelope.open(bytes(packet[: bit % len(packet)]))


def test_a_packet_that_is_not_opened_has_a_reason():
    plain, keyed = Envelope("orchy/64/1"), Envelope("orchy/64/1", [KEY_1])
    for packet, reason in [
        (Envelope("orchy/32/1").seal(b""), "wrong label"),
        (b"\x09" + plain.seal(b"")[1:], "wrong version"),
        (keyed.seal(b""), "wrong key"),
        (b"", "truncated"),
    ]:
        with pytest.raises(Unopened, match=reason):
            plain.open(packet)


def test_keys_are_rotated_one_node_at_a_time():
    old, both, new, last = (Envelope("t", keys) for keys in ([KEY_1], [KEY_1, KEY_2], [KEY_2, KEY_1], [KEY_2]))
    for one, other in [(old, both), (both, new), (new, last)]:
        assert one.open(other.seal(b"x")) == other.open(one.seal(b"x")) == b"x"
    with pytest.raises(Unopened):
        old.open(last.seal(b"x"))


@given(st.lists(st.sampled_from("+-."), max_size=60), st.randoms(use_true_random=False))
def test_each_member_has_one_turn_a_round_despite_joins_and_leaves(steps, choose):
    present = {f"n{number}" for number in range(5)}
    order = Order(sorted(present))
    came = 5
    for step in steps:
        if step == "+":
            present.add(f"n{came}")
            order.append(f"n{came}")
            came += 1
        elif step == "-" and present:
            present.discard(choose.choice(sorted(present)))
        else:
            name = order.next(present.__contains__, choose)
            assert (name in present) if present else name is None
    for _ in range(len(present)):  # at most to the end of the present round
        order.next(present.__contains__, choose)
    size = len(order)
    first = [order.next(present.__contains__, choose) for _ in range(3 * max(1, size))]
    for name in present:
        turns = [index for index, had in enumerate(first) if had == name]
        assert len(turns) >= 2
        assert all(later - earlier < 2 * size for earlier, later in itertools.pairwise(turns))


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=40))
def test_updates_are_sent_a_limited_number_of_times_and_replaced_by_newer_ones(steps):
    broadcasts, sent = Broadcasts(), Counter()
    for number, (name, put) in enumerate(steps):
        if put:
            broadcasts.put(name, b"%s-%04d" % (name.encode(), number))
        else:
            sent.update(broadcasts.take(20, 3))
    while broadcasts:
        sent.update(broadcasts.take(20, 3))
    assert all(count <= 3 for count in sent.values())
    last = {name: number for number, (name, put) in enumerate(steps) if put}
    assert all(sent[b"%s-%04d" % (name.encode(), number)] == 3 for name, number in last.items())


def test_a_suspicion_is_shortened_by_independent_accusers():
    suspicion = Suspicion(0.0, "a", 5.0, 30.0, 3)
    assert suspicion.seconds == 30
    assert not suspicion.confirm("a")
    for confirmations, accuser in enumerate("bcd", 1):
        assert suspicion.confirm(accuser)
        assert suspicion.seconds == pytest.approx(30 - 25 * math.log(confirmations + 1) / math.log(4))
    assert not suspicion.confirm("e")
    assert suspicion.seconds == 5


@given(st.lists(ANY_RECORDS, max_size=12), st.randoms(use_true_random=False))
def test_tables_with_the_same_live_members_have_one_digest(records, choose):
    newest: dict[str, Record] = {}
    for record in records:
        newest[record.name] = merge(newest.get(record.name, record), record)
    one, other = (Members("me", Snapshot(), random.Random(1)) for _ in range(2))
    for record in records:
        known = one.get(record.name)
        if known is None or record.beats(known):
            one.put(record, 0.0)
    shuffled = list(newest.values())
    choose.shuffle(shuffled)
    for record in shuffled:
        other.put(record, 0.0)
    assert (one.digest, one.live) == (other.digest, other.live)
    assert {record.name: record for record in one} == newest
