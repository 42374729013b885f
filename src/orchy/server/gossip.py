"""This node in the gossip: its sockets, its name in the store, and its membership, each for as long as it lives."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from orchy.addresses import HostPort
from orchy.cluster.joining import name_store
from orchy.cluster.membership import GossipMembership, Profile
from orchy.cluster.registry import Registry
from orchy.runtime.nurseries import open_service_nursery
from orchy.server.config import Config
from orchy.server.opening import Opened, label_of, storeless_envelope
from orchy.swim.core import Introducer
from orchy.swim.envelope import Envelope
from orchy.swim.machine import Swim
from orchy.swim.messages import Address
from orchy.swim.parameters import PROFILES
from orchy.swim.udp import Driver, Sockets, boottime, open_sockets, resolve


@asynccontextmanager
async def open_gossip_sockets(config: Config) -> AsyncIterator[tuple[Sockets, Address]]:
    """The sockets, and the address that other nodes are told. Nobody is answered yet. Raises StartupError."""
    sockets = await open_sockets(config.bind_addr.host, config.bind_addr.port)
    try:
        advertised = config.advertise_addr or HostPort(*sockets.address)
        yield sockets, await resolve(advertised.host, advertised.port or sockets.address[1])
    finally:
        with trio.CancelScope(shield=True):
            await sockets.aclose()


@asynccontextmanager
async def open_registry(
    config: Config, opened: Opened, profile: Profile, gossip_address: str
) -> AsyncIterator[Registry]:
    """This process registered in the store's list of nodes. Raises StartupError if another one has its name."""
    registry = Registry(opened.store, config.node_name, profile.instance, gossip_address)
    async with open_service_nursery() as nursery:
        await nursery.start(registry.run)
        yield registry
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_membership(
    config: Config, sockets: Sockets, address: Address, registry: Registry, profile: Profile, opened: Opened
) -> AsyncIterator[tuple[GossipMembership, Driver]]:
    """This node as a member, or on its way to be one. Raises StartupError, also later: see `GossipMembership.fail`."""
    label = label_of(config, opened.identity)
    membership = GossipMembership(config.node_name, label, registry, profile)
    machine = Swim(
        name=config.node_name,
        address=address,
        now=boottime(),
        envelope=Envelope(label, config.gossip_key),
        meta=profile.pack(),
        parameters=PROFILES[config.gossip_profile],
        epoch=time.time() - boottime(),
        vouched=membership.vouched,
        yields=False,  # the store says that the name is this node's
        introducer=Introducer(storeless_envelope(config), name_store(opened.addresses)),
    )
    driver = Driver(machine, sockets, membership.on_event)
    membership.attach(driver)
    async with open_service_nursery() as nursery:
        await nursery.start(driver.run)
        nursery.start_soon(membership.fail)
        membership.join([(seed.host, seed.port) for seed in config.cluster_address])
        await membership.announced()
        yield membership, driver
        nursery.cancel_scope.cancel()
