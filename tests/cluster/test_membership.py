"""How a node reads what others say about themselves, and the refusals of other clusters."""

from __future__ import annotations

import msgpack
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from orchy.cluster.membership import GossipMembership, Profile, cluster_label, refusal, unpack_profile
from orchy.cluster.registry import Registry, new_instance
from orchy.errors import ConfigurationError, StartupError
from orchy.store.memory.store import MemoryStore
from orchy.swim.messages import Record, State

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
MINE = cluster_label("orchy", 64, 1, "a1")


@given(ANYTHING | st.lists(ANYTHING, min_size=4, max_size=5))
def test_any_profile_can_be_read(value):
    profile = unpack_profile(msgpack.packb(value))
    assert type(profile.ready) is bool
    for text in (profile.grpc_address, profile.http_address, profile.instance):
        assert text.isascii()
        assert text.isprintable()


@given(st.binary(max_size=60))
def test_noise_makes_an_empty_profile(noise):
    assert isinstance(unpack_profile(noise), Profile)


def test_a_packed_profile_is_unpacked():
    profile = Profile(True, "h:1", "[::1]:2", "i")
    assert unpack_profile(profile.pack()) == profile
    assert unpack_profile(msgpack.packb([*msgpack.unpackb(profile.pack()), "of a later version"])) == profile


@pytest.mark.parametrize(
    ("theirs", "opened", "error", "words"),
    [
        (cluster_label("other", 64, 1, ""), True, ConfigurationError, "--namespace other"),
        (cluster_label("orchy", 32, 1, ""), True, ConfigurationError, "--partitions 32"),
        (cluster_label("orchy", 64, 2, ""), True, StartupError, "format 2"),
        (cluster_label("orchy", 64, 1, ""), True, StartupError, "has another store than this node"),
        (cluster_label("orchy", 64, 1, ""), False, StartupError, "--gossip-key"),
        ("orchy/64/1", True, StartupError, "something else than a node"),
        ("a\x1b[2Jb/64/1/", True, StartupError, "something else than a node"),
        ("orchy/\n/1/", True, StartupError, "something else than a node"),
        ("", False, StartupError, "something else than a node"),
    ],
)
def test_a_refusal_gives_its_reason(theirs, opened, error, words):
    said = refusal("10.0.0.1:8400", MINE, theirs, opened)
    assert type(said) is error
    assert words in str(said)
    assert str(said).isprintable()
    assert "a1" not in str(said)


async def test_only_the_registered_process_is_vouched_for(autojump_clock, nursery):
    store = MemoryStore(clock=trio.current_time)
    addresses = ("10.0.0.2:1", "10.0.0.2:2", "10.0.0.2:3")
    instance = new_instance(*addresses)
    await store.register("b", instance, addresses[0], 10**9)
    registry = Registry(store, "a", new_instance("g", "r", "h"), "g")
    await nursery.start(registry.run)
    membership = GossipMembership("a", MINE, registry, Profile())

    def record(name="b", host="10.0.0.2", port=1, grpc=addresses[1], http=addresses[2], instance=instance, ready=True):
        meta = Profile(ready, grpc, http, instance).pack()
        return Record(name, 5, State.ALIVE, (host, port), meta)

    assert membership.vouched(record())
    assert membership.vouched(record(ready=False))
    for fake in [
        record(name="c"),
        record(host="10.6.6.6"),
        record(port=9),
        record(grpc="10.6.6.6:8099"),
        record(http="10.6.6.6:8080"),
        record(instance=new_instance(*addresses)),
        record(instance=new_instance("10.0.0.2:1", "10.6.6.6:8099", addresses[2]), grpc="10.6.6.6:8099"),
        record(instance=""),
        Record("b", 5, State.ALIVE, ("10.0.0.2", 1), b"\xc1"),
    ]:
        assert not membership.vouched(fake)
