"""Opens the store of a node: finds out where it is, checks it, and keeps an eye on its settings."""

from __future__ import annotations

import logging
import secrets
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NoReturn

import attrs
import trio

from orchy.cluster.joining import learn_store
from orchy.cluster.membership import cluster_label
from orchy.errors import ConfigurationError, StartupError, StoreError
from orchy.partition.leases import LeaseKeeper
from orchy.server.config import Config
from orchy.store.definitions import NamespaceSettings
from orchy.store.redis import Address, Redis, RedisSettings, RedisStore, TcpAddress, open_redis
from orchy.store.redis.checks import check_rights, check_servers
from orchy.store.redis.embedded import open_embedded_redis
from orchy.store.redis.place import place_of
from orchy.store.redis.settings import UnixAddress
from orchy.swim.envelope import Envelope

#: Raised with each change of the stored format that an older version can't read.
FORMAT_VERSION = 1
IDENTITY_BYTES = 8
#: How often the settings are checked.
SETTINGS_SECONDS = 10.0

log = logging.getLogger(__name__)


def label_of(config: Config, identity: str) -> str:
    """The gossip's label of this node's cluster; `identity` is empty as long as the store is not known."""
    return cluster_label(config.namespace, config.partitions, FORMAT_VERSION, identity)


def storeless_envelope(config: Config) -> Envelope:
    """How nodes that have no store yet seal their packets."""
    return Envelope(label_of(config, ""), config.gossip_key)


@attrs.frozen
class Opened:
    """A store that was opened and checked, and fits this node. `place`: where its data is, if that is known."""

    redis: Redis
    store: RedisStore
    addresses: tuple[Address, ...]
    place: str
    identity: str


@asynccontextmanager
async def open_store(config: Config) -> AsyncIterator[Opened]:
    """The store that the configuration names, or that the cluster has, after all checks. Raises StartupError."""
    async with _open_addresses(config) as (addresses, place):
        settings = RedisSettings(
            addresses,
            username=config.redis_username,
            password=config.redis_password,
            tls=ssl.create_default_context() if config.redis_tls else None,
        )
        started = False
        try:
            async with open_redis(settings) as redis:
                report = await check_servers(redis)
                await check_rights(redis, config.namespace, config.partitions)
                log.info("store: %s; %s", report.server, "; ".join(report.promises))
                store = RedisStore(redis, config.namespace)
                identity = await _agree_on_settings(store, config, place)
                started = True
                yield Opened(redis, store, addresses, place, identity)
        except StoreError as error:
            if started:
                raise
            raise StartupError(f"{error}; check --redis-addr and that the server runs") from None


@asynccontextmanager
async def _open_addresses(config: Config) -> AsyncIterator[tuple[tuple[Address, ...], str]]:
    """The addresses of the store, and the place of its data if that is known."""
    if config.redis_addr:
        yield tuple(TcpAddress(address.host, address.port) for address in config.redis_addr), ""
        return
    mine = config.advertise_addr or config.bind_addr
    has_password = config.redis_password is not None
    learned = await learn_store(storeless_envelope(config), config.cluster_address, mine, has_password)
    if learned is not None:
        if (config.data_dir / "appendonlydir").exists() and not isinstance(learned[0], UnixAddress):
            log.warning("the store in the data directory %s is not used: the cluster has another", config.data_dir)
        yield learned, ""
    else:
        async with open_embedded_redis(config.data_dir) as address:
            yield (address,), place_of(config.data_dir)


async def _agree_on_settings(store: RedisStore, config: Config, place: str) -> str:
    """Check that the namespace's settings fit this node, and return its identity. Raises ConfigurationError."""
    wanted = NamespaceSettings(config.partitions, FORMAT_VERSION, secrets.token_hex(IDENTITY_BYTES))
    settings = await store.settings(wanted, place)
    if settings.renewed:
        log.warning(
            "the data directory %s was copied or moved: its namespace %r has a new identity, and is not of the cluster"
            " that it was copied from",
            config.data_dir,
            config.namespace,
        )
    if settings.partitions != config.partitions:
        raise ConfigurationError(
            f"the namespace {config.namespace!r} has {settings.partitions} partitions, this node was told"
            f" {config.partitions}: give --partitions {settings.partitions}, or another --namespace"
        )
    if settings.format_version != FORMAT_VERSION:
        raise StartupError(
            f"the namespace {config.namespace!r} is kept in format {settings.format_version}, this version of Orchy"
            f" reads {FORMAT_VERSION}: use the version that wrote it, or another --namespace"
        )
    return settings.identity


async def keep_settings(keeper: LeaseKeeper, forget: Callable[[], None], opened: Opened, config: Config) -> NoReturn:
    """Write the settings again if the store has lost them, so that other nodes still find the cluster's identity.

    `forget` is called after each loss of the store's data: what this node has cached may be wrong.
    """
    settings = NamespaceSettings(config.partitions, FORMAT_VERSION, opened.identity)
    logged, losses = False, 0
    while True:
        with trio.move_on_after(SETTINGS_SECONDS):
            if keeper.losses == losses:
                await keeper.wait_for_loss()
        if keeper.losses > losses:
            losses = keeper.losses
            forget()
        try:
            found = await opened.store.settings(settings, opened.place)
        except StoreError as error:
            log.debug("can't look after the settings: %s", error)
            continue
        if not logged and (found.partitions, found.identity) != (settings.partitions, settings.identity):
            logged = True
            log.error("the store was replaced by another one: its settings are not those that this node started with")
