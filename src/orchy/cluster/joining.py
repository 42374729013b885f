"""How a node that was given addresses of a cluster, but none of a store, learns where the store is.

It asks the nodes that the operator named, over TCP, and no others: what the gossip says about other nodes is no reason
to trust them with a store. An answer is authentic if it was encrypted with the gossip key, or came from a loopback
address. Any other answer may name a store too, but then no password is ever sent there.
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
from orchy.cluster.timing import JOIN_TIMING, JoinTiming
from orchy.errors import OrchyError, StartupError
from orchy.store.redis import Address, TcpAddress
from orchy.store.redis.settings import UnixAddress
from orchy.swim.codec import Malformed, decode, encode, join
from orchy.swim.envelope import Envelope, Unopened, label_of
from orchy.swim.frames import Budget, is_local, read_frame, write_frame
from orchy.swim.messages import AskStore, Refused, StoreAt

ANSWER_BYTES_MAX = 4_096

log = logging.getLogger(__name__)


def name_store(addresses: Sequence[Address]) -> str:
    """How other nodes are told about a store: without user and password."""
    first = addresses[0]
    if isinstance(first, UnixAddress):
        return f"unix:{first.path}"
    hosts = [str(HostPort(address.host, address.port)) for address in addresses if isinstance(address, TcpAddress)]
    return f"redis:{','.join(hosts)}"


def parse_store(node: str, name: str) -> tuple[Address, ...]:
    """The inverse of `name_store`, for the answer of `node`. Raises StartupError if it can't be reached from here."""
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
    """What a node answered. `authentic`: it has the gossip key, or is on this host."""

    node: str
    store: str
    authentic: bool


def accept(answer: Answer, has_password: bool) -> tuple[Address, ...]:
    """The store that an answer names. Raises StartupError, also if a password would go to an unproven place."""
    if has_password and not answer.authentic:
        raise StartupError(
            f"{answer.node} says that the store is {answer.store}, but nothing proves that it is who it says it is, and"
            " a password is not sent on such a word: give --redis-addr, or the cluster's --gossip-key"
        )
    if not answer.authentic and answer.store.startswith("unix:"):  # on this host it may be anybody's socket
        raise _not_from_here(answer.node)
    return parse_store(answer.node, answer.store)


class _Outcome:
    """The outcome of asking all seeds once: the first store, which ends the round, or else the first refusal."""

    def __init__(self) -> None:
        self.store: Answer | None = None
        self.refused: OrchyError | None = None
        self.scope = trio.CancelScope()


async def learn_store(
    envelope: Envelope,
    seeds: Sequence[HostPort],
    mine: HostPort,
    has_password: bool,
    timing: JoinTiming = JOIN_TIMING,
) -> tuple[Address, ...] | None:
    """Ask the seeds until one says where the store is. None: this node, at `mine`, is the first of its cluster.

    The label of `envelope` has no identity. Raises StartupError.
    """
    others = [seed for seed in seeds if seed != mine]
    first = len(others) < len(seeds)
    if not others:
        return None
    began = logged_at = trio.current_time()
    while True:
        outcome = _Outcome()
        with trio.move_on_after(timing.ask_seconds) as outcome.scope:
            async with trio.open_nursery() as nursery:
                for seed in others:
                    nursery.start_soon(_ask, envelope, seed, outcome)
        if outcome.store is not None:
            addresses = accept(outcome.store, has_password)
            log.info("the store is the one of %s: %s", outcome.store.node, outcome.store.store)
            return addresses
        if outcome.refused is not None:
            raise outcome.refused
        now = trio.current_time()
        if first and now - began > timing.first_node_seconds:
            return None
        if now - logged_at > timing.log_again_seconds:
            logged_at = now
            log.warning(
                "still waiting for a node of the cluster at %s, to learn where the store is; give --redis-addr if there"
                " is a Redis",
                ", ".join(map(str, others)),
            )
        await trio.sleep(timing.ask_again_seconds)


async def _ask(envelope: Envelope, seed: HostPort, outcome: _Outcome) -> None:
    """Ask one node; an answer that is none of a node's changes nothing."""
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
        outcome.refused = outcome.refused or refusal(str(seed), mine, theirs, opened=False)
        return
    match messages:
        case [StoreAt(answered, store)] if answered == nonce and theirs == mine:
            outcome.store = outcome.store or Answer(str(seed), store, near or envelope.encrypts)
            outcome.scope.cancel()
        case [Refused()]:
            outcome.refused = outcome.refused or refusal(str(seed), mine, theirs, opened=True)
        case _:
            log.debug("%s answered something else than where the store is", seed)
