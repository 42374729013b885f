"""A new node learns where the store is from the nodes that the operator named, and from no others."""

from __future__ import annotations

import socket

import pytest
import trio

from orchy.addresses import HostPort
from orchy.cluster import joining
from orchy.cluster.joining import Answer, accept, learn_store
from orchy.cluster.timing import JoinTiming
from orchy.errors import ConfigurationError, StartupError
from orchy.store.redis import TcpAddress
from orchy.store.redis.settings import UnixAddress
from orchy.swim.codec import decode, encode, join
from orchy.swim.envelope import Envelope, Unopened
from orchy.swim.frames import Budget, read_frame, write_frame
from orchy.swim.messages import AskStore, Refused, StoreAt

BARE = Envelope("orchy/64/1/")
KEYED = Envelope("orchy/64/1/", [b"k" * 16])
MINE = HostPort("127.0.0.1", 1)
STORE = (TcpAddress("10.0.0.1", 6379),)


def says(store, envelope=BARE, offset=0):
    """A node that gives this answer to the question for the store."""

    async def serve(stream):
        async with stream:
            frame = await read_frame(stream, 1_000, Budget(10_000))
            try:
                (question,) = decode(envelope.open(frame))
            except Unopened:
                await write_frame(stream, envelope.seal(join([encode(Refused())])))
                return
            assert isinstance(question, AskStore)
            await write_frame(stream, envelope.seal(join([encode(StoreAt((question.nonce + offset) % 2**64, store))])))

    return serve


async def silent(stream):
    await trio.sleep_forever()


async def hangs_up(stream):
    await stream.aclose()


@pytest.fixture
def node(nursery):
    async def start(serve):
        listeners = await nursery.start(trio.serve_tcp, serve, 0)
        return HostPort("127.0.0.1", listeners[0].socket.getsockname()[1])

    return start


async def test_a_seed_says_where_the_store_is(node):
    seed = await node(says("redis:10.0.0.1:6379"))
    assert await learn_store(BARE, [seed], MINE, True) == STORE
    keyed = await node(says("redis:10.0.0.1:6379", KEYED))
    assert await learn_store(KEYED, [keyed], MINE, True) == STORE


async def test_seeds_that_do_not_answer_do_not_hold_up_those_that_do(node):
    dead = HostPort("127.0.0.1", 1)
    seeds = [dead, await node(silent), await node(hangs_up), await node(says("redis:10.0.0.1:6379"))]
    with trio.fail_after(10):
        assert await learn_store(BARE, seeds, HostPort("127.0.0.1", 2), False) == STORE


async def test_the_first_node_has_a_store_of_its_own(node):
    timing = JoinTiming(first_node_seconds=0.1)
    assert await learn_store(BARE, [], MINE, False) is None
    assert await learn_store(BARE, [MINE], MINE, False) is None
    assert await learn_store(BARE, [MINE, await node(hangs_up)], MINE, False, timing) is None


async def test_a_password_is_not_sent_to_an_unproven_place(node, monkeypatch):
    seed = await node(says("redis:10.0.0.1:6379"))
    monkeypatch.setattr(joining, "is_local", lambda stream: False)  # as over a network
    with pytest.raises(StartupError, match=r"a password is not sent .* --redis-addr, or the cluster's --gossip-key"):
        await learn_store(BARE, [seed], MINE, True)
    assert await learn_store(BARE, [seed], MINE, False) == STORE
    keyed = await node(says("redis:10.0.0.1:6379", KEYED))
    assert await learn_store(KEYED, [keyed], MINE, True) == STORE


@pytest.mark.parametrize("serve", [says("redis:6.6.6.6:6", offset=1), says("redis:6.6.6.6:6", BARE, offset=2**63)])
async def test_an_answer_to_another_question_is_ignored(node, serve):
    seed = await node(serve)
    with trio.move_on_after(1) as waits:
        await learn_store(BARE, [seed], MINE, False)
    assert waits.cancelled_caught


@pytest.mark.parametrize(
    ("envelope", "error", "words"),
    [
        (Envelope("other/64/1/"), ConfigurationError, "--namespace other"),
        (Envelope("orchy/32/1/"), ConfigurationError, "--partitions 32"),
        (Envelope("orchy/64/2/"), StartupError, "format 2"),
        (KEYED, StartupError, "--gossip-key"),
        (Envelope("\x1b[31m/64/1/"), StartupError, "something else than a node"),
        (Envelope("a b\nc/64/1/"), StartupError, "something else than a node"),
        (Envelope("x"), StartupError, "something else than a node"),
    ],
)
async def test_seeds_of_another_cluster_are_refused_with_the_reason(node, envelope, error, words):
    with pytest.raises(error, match=words) as caught:
        await learn_store(BARE, [await node(says("redis:h:1", envelope))], MINE, False)
    assert str(caught.value).isprintable()


def test_stores_that_can_not_be_reached_are_refused():
    for store in ("unix:/nowhere/redis.sock", "redis:", "redis:x", "what:ever", "redis:h:99999"):
        with pytest.raises(StartupError):
            accept(Answer("seed:1", store, True), False)


def test_a_unix_socket_is_used_only_if_this_host_names_it(tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "redis.sock"))
        store = f"unix:{tmp_path}/redis.sock"
        assert accept(Answer("seed:1", store, True), True) == (UnixAddress(f"{tmp_path}/redis.sock"),)
        with pytest.raises(StartupError, match="on its own host only"):
            accept(Answer("seed:1", store, False), False)
