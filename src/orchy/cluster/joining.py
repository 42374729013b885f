"""A node that was told of a cluster, but of no store, asks the nodes that the operator named where the store is.

It asks over TCP, and nobody else than those: what the gossip says about other nodes is no reason to open a store there.
With a gossip key question and answer are encrypted; an answer from a loopback address counts as one of this host's. An
answer that is neither may still name a store, but no password is ever sent to a place that was learned so.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence
from pathlib import Path

import attrs
import trio

from orchy.addresses import HostPort, parse_host_port
from orchy.cluster.membership import refusal
from orchy.errors import OrchyError, StartupError
from orchy.store.redis import Address, TcpAddress
from orchy.store.redis.settings import UnixAddress
from orchy.swim.codec import Malformed, decode, encode, join
from orchy.swim.envelope import Envelope, Unopened, label_of
from orchy.swim.frames import Budget, is_local, read_frame, write_frame
from orchy.swim.messages import AskStore, Refused, StoreAt

#: A node that is named among the addresses of its cluster starts it, if no other one has answered by then.
FIRST_NODE_SECONDS = 3.0
ASK_SECONDS = 2.0
ASK_AGAIN_SECONDS = 0.2
SAY_AGAIN_SECONDS = 10.0
ANSWER_BYTES_MAX = 4_096

log = logging.getLogger(__name__)


def name_store(addresses: Sequence[Address]) -> str:
    """How a store is named to other nodes: without user or password."""
    first = addresses[0]
    if isinstance(first, UnixAddress):
        return f"unix:{first.path}"
    hosts = [str(HostPort(address.host, address.port)) for address in addresses if isinstance(address, TcpAddress)]
    return f"redis:{','.join(hosts)}"


def parse_store(node: str, name: str) -> tuple[Address, ...]:
    """What another node calls its store. Raises StartupError if it can't be reached from here."""
    kind, _, where = name.partition(":")
    if kind == "unix":
        if not Path(where).is_socket():
            raise _not_from_here(node)
        return (UnixAddress(where),)
    try:
        addresses = [parse_host_port(part) for part in where.split(",")]
    except ValueError:
        raise StartupError(f"{node} has a store that this version does not know: {name}") from None
    return tuple(TcpAddress(address.host, address.port) for address in addresses)


def _not_from_here(node: str) -> StartupError:
    return StartupError(
        f"{node} keeps its store in itself, and that can be used on its own host only: start a Redis, and give"
        " --redis-addr to all nodes"
    )


@attrs.frozen
class Answer:
    """What a node said. `authentic`: it has the gossip key, or is on this host."""

    node: str
    store: str
    authentic: bool


def accept(answer: Answer, has_password: bool) -> tuple[Address, ...]:
    """The store that an answer names. Raises StartupError, also where a password would go to who knows whom."""
    if has_password and not answer.authentic:
        raise StartupError(
            f"{answer.node} says that the store is {answer.store}, but nothing proves that it is who it says it is, and"
            " a password is not sent on such a word: give --redis-addr, or the cluster's --gossip-key"
        )
    if not answer.authentic and answer.store.startswith("unix:"):  # whose socket that may be here, nobody knows
        raise _not_from_here(answer.node)
    return parse_store(answer.node, answer.store)


class _Asked:
    """What a round of questions brought: the first store, which ends it, or the first reason why there will be none."""

    def __init__(self) -> None:
        self.store: Answer | None = None
        self.refused: OrchyError | None = None
        self.scope = trio.CancelScope()


async def learn_store(
    envelope: Envelope, seeds: Sequence[HostPort], mine: HostPort, has_password: bool
) -> tuple[Address, ...] | None:
    """Ask until one of the nodes that the operator named says where the store is. None: this node is the first one.

    `envelope` has the label without an identity. Raises StartupError.
    """
    others = [seed for seed in seeds if seed != mine]
    first = len(others) < len(seeds)
    if not others:
        return None
    began = said_at = trio.current_time()
    while True:
        asked = _Asked()
        with trio.move_on_after(ASK_SECONDS) as asked.scope:
            async with trio.open_nursery() as nursery:
                for seed in others:
                    nursery.start_soon(_ask, envelope, seed, asked)
        if asked.store is not None:
            addresses = accept(asked.store, has_password)
            log.info("the store is the one of %s: %s", asked.store.node, asked.store.store)
            return addresses
        if asked.refused is not None:
            raise asked.refused
        now = trio.current_time()
        if first and now - began > FIRST_NODE_SECONDS:
            return None
        if now - said_at > SAY_AGAIN_SECONDS:
            said_at = now
            log.warning(
                "still waiting for a node of the cluster at %s, to learn where the store is; give --redis-addr if there"
                " is a Redis",
                ", ".join(map(str, others)),
            )
        await trio.sleep(ASK_AGAIN_SECONDS)


async def _ask(envelope: Envelope, seed: HostPort, asked: _Asked) -> None:
    """One question to one node; nothing comes of it if it does not answer as a node does."""
    nonce = secrets.randbits(64)
    try:
        async with await trio.open_tcp_stream(seed.host, seed.port) as stream:
            await write_frame(stream, envelope.seal(join([encode(AskStore(nonce))])))
            packet = await read_frame(stream, ANSWER_BYTES_MAX, Budget(2 * ANSWER_BYTES_MAX))
            near = is_local(stream)
    except (OSError, trio.BrokenResourceError) as error:
        log.debug("%s was not asked for the store: %s", seed, error)
        return
    if packet is None:
        log.debug("%s did not say where the store is", seed)
        return
    mine, theirs = label_of(envelope.seal(b"")), label_of(packet)
    try:
        messages = decode(envelope.open_foreign(packet))
    except (Unopened, Malformed):
        asked.refused = asked.refused or refusal(str(seed), mine, theirs, opened=False)
        return
    match messages:
        case [StoreAt(answered, store)] if answered == nonce and theirs == mine:
            asked.store = asked.store or Answer(str(seed), store, near or envelope.encrypts)
            asked.scope.cancel()
        case [Refused()]:
            asked.refused = asked.refused or refusal(str(seed), mine, theirs, opened=True)
        case _:
            log.debug("%s answered something else than where the store is", seed)
