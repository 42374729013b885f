"""A node that was told of a cluster, but of no store, learns from the others where the store is."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import trio

from orchy.config import HostPort, parse_host_port
from orchy.errors import StartupError
from orchy.membership import GossipMembership
from orchy.store.redis import Address, TcpAddress
from orchy.store.redis.settings import UnixAddress

#: A node that is named among the addresses of its cluster starts it, if no other one has answered by then.
FIRST_NODE_SECONDS = 3.0
LOOK_SECONDS = 0.05
SAY_AGAIN_SECONDS = 10.0

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
            raise StartupError(
                f"{node} keeps its store in itself, and that can be used on its own host only: start a Redis, and give"
                " --redis-addr to all nodes"
            )
        return (UnixAddress(where),)
    try:
        addresses = [parse_host_port(part) for part in where.split(",")]
    except ValueError:
        raise StartupError(f"{node} has a store that this version does not know: {name}") from None
    return tuple(TcpAddress(address.host, address.port) for address in addresses)


async def learn_store(
    membership: GossipMembership, seeds: Sequence[HostPort], mine: HostPort
) -> tuple[Address, ...] | None:
    """Wait until another node names the store. None: this node is the first one, and starts its own.

    Raises StartupError.
    """
    others = [str(seed) for seed in seeds if seed != mine]
    first = len(others) < len(seeds)
    began = said_at = trio.current_time()
    while not (stores := membership.stores()):
        now = trio.current_time()
        if first and (not others or now - began > FIRST_NODE_SECONDS):
            return None
        if now - said_at > SAY_AGAIN_SECONDS:
            said_at = now
            log.warning(
                "still waiting for a node of the cluster at %s, to learn where the store is; give --redis-addr if there"
                " is a Redis",
                ", ".join(others),
            )
        await trio.sleep(LOOK_SECONDS)
    node, name = stores[0]
    addresses = parse_store(node, name)
    log.info("the store is the one of %s: %s", node, name)
    return addresses
