"""The composition root: opens the store, wires the ports to their adapters, owns the root nursery, and drains.

Start: the gossip, which may have to tell where the store is; the store, its checks, the namespace's settings; then
leases and loops; then the doors (gRPC, REST), so that nobody is let in before there is somebody to serve. Stop is the
same backwards: the partitions are handed over, polls that wait are answered, calls under way may end, the store is
closed, the gossip says goodbye.
"""

from __future__ import annotations

import logging
import secrets
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial

import attrs
import trio
from quart_trio import QuartTrio

from orchy.actions import SYSTEM_ACTIONS
from orchy.actions.javascript.pool import Pool, open_pool
from orchy.catalog import Catalog
from orchy.cluster import Cluster
from orchy.config import Config, HostPort
from orchy.dispatch import Dispatcher
from orchy.errors import ConfigurationError, StartupError, StoreError
from orchy.joining import learn_store, name_store
from orchy.membership import GossipMembership, cluster_label, gossip_counts, parse_shown
from orchy.metrics import Metrics
from orchy.orchestrator import Orchestrator
from orchy.partition.holdings import Holdings
from orchy.partition.leases import LEASE_TIMES, LeaseKeeper
from orchy.partition.retention import run_retention
from orchy.partition.timers import TimerLoop
from orchy.queries import Queries
from orchy.registry import stay_registered
from orchy.rest import Services, create_app
from orchy.rest import serve as serve_rest
from orchy.ring import owners, partition_of, successors
from orchy.rpc.convert import encode_action
from orchy.rpc.server import RpcServer, open_listeners
from orchy.rpc.servicer import ActionService, HealthService
from orchy.rpc.tls import server_context
from orchy.rpc.work import WorkSessions
from orchy.store.base import NamespaceSettings, RegisteredNode
from orchy.store.redis import Address, Redis, RedisSettings, RedisStore, TcpAddress, open_redis
from orchy.store.redis.checks import check_servers
from orchy.store.redis.embedded import open_embedded_redis
from orchy.swim.envelope import Envelope
from orchy.swim.machine import Swim
from orchy.swim.parameters import PROFILES
from orchy.swim.udp import Driver, boottime, open_sockets, resolve
from orchy.tasks import open_service_nursery
from orchy.unforeseen import counts

#: Raised with each change of what the store holds that an older version can't read.
FORMAT_VERSION = 1
#: How long the first leases may take; without them the node starts too, and takes them when it can.
FIRST_LEASES_SECONDS = 3.0

log = logging.getLogger(__name__)


@attrs.frozen
class Addresses:
    """Where a node listens, as "host:port" with the ports that it really has."""

    http: str
    grpc: str
    gossip: str


async def run_node(
    config: Config,
    *,
    shutdown: trio.Event,
    task_status: trio.TaskStatus[Addresses] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Be a server until `shutdown`; started when it serves. Raises StartupError in one plain sentence."""
    rpc_tls = None
    if config.grpc_tls_cert and config.grpc_tls_key:
        rpc_tls = server_context(config.grpc_tls_cert, config.grpc_tls_key)
    async with _open_gossip(config) as (membership, driver):
        async with _open_store(config, membership) as (redis, store), _open_engine(config) as engine:
            await _agree_on_settings(store, config)
            host = config.bind_addr.host
            rpc_listeners, grpc_port = await open_listeners(host, config.grpc_port, "--grpc-port")
            rest_listeners, http_port = await open_listeners(host, config.http_port, "--http-port")
            gossip_host = driver.machine.me.address[0]
            addresses = Addresses(
                http=str(HostPort(gossip_host, http_port)),
                grpc=str(HostPort(gossip_host, grpc_port)),
                gossip=str(HostPort(*driver.machine.me.address)),
            )
            node = _wire(config, store, redis, engine, membership, driver, rpc_tls)
            async with open_service_nursery() as loops:
                await loops.start(
                    stay_registered,
                    store,
                    config.node_name,
                    secrets.token_hex(8),
                    addresses.gossip,
                    partial(_reconnect, membership),
                )
                membership.describe(
                    attrs.evolve(membership.profile, grpc_address=addresses.grpc, http_address=addresses.http)
                )
                loops.start_soon(node.cluster.run)
                loops.start_soon(node.timers.run)
                loops.start_soon(run_retention, store, node.holdings)
                with trio.move_on_after(FIRST_LEASES_SECONDS):
                    await loops.start(node.keeper.run)
                async with open_service_nursery() as doors:
                    stop_rest = trio.Event()
                    await loops.start(node.sessions.run)
                    loops.start_soon(node.rpc.serve, rpc_listeners)
                    doors.start_soon(serve_rest, node.app, rest_listeners, stop_rest, config.drain_seconds)
                    task_status.started(addresses)
                    await shutdown.wait()
                    log.info("stopping: calls under way have %g s", config.drain_seconds)
                    await node.cluster.hand_over()
                    node.dispatcher.close()
                    stop_rest.set()
                    with trio.move_on_after(config.drain_seconds):
                        await node.rpc.drain()
                loops.cancel_scope.cancel()
        await membership.leave()
    log.info("stopped")


@attrs.frozen
class _Node:
    """The parts that have tasks of their own, or are told of the stop."""

    cluster: Cluster
    keeper: LeaseKeeper
    timers: TimerLoop
    holdings: Holdings
    dispatcher: Dispatcher
    sessions: WorkSessions
    rpc: RpcServer
    app: QuartTrio


def _wire(
    config: Config,
    store: RedisStore,
    redis: Redis,
    engine: Pool,
    membership: GossipMembership,
    driver: Driver,
    rpc_tls: ssl.SSLContext | None,
) -> _Node:
    """Ports to adapters. Nothing runs yet."""
    metrics = Metrics()
    holdings = Holdings()
    keeper = LeaseKeeper(store, config.node_name, holdings, LEASE_TIMES[config.gossip_profile])
    dispatcher = Dispatcher(store, config.batch_size)
    holdings.watch(dispatcher.own)
    cluster = Cluster(
        node=config.node_name,
        partitions=config.partitions,
        membership=membership,
        owners=owners,
        successors=successors,
        keeper=keeper,
        holdings=holdings,
        store=store,
    )
    catalog = Catalog(store, SYSTEM_ACTIONS, engine)
    place = partial(partition_of, partitions=config.partitions)
    orchestrator = Orchestrator(
        store=store,
        catalog=catalog,
        system_actions=SYSTEM_ACTIONS,
        engine=engine,
        encode_action=encode_action,
        partition_of=place,
        wakeups=cluster,
        takers=dispatcher,
        observer=metrics,
        retention_seconds=config.retention_seconds,
        default_timeout_seconds=config.default_timeout_seconds,
        batch_size=config.batch_size,
    )
    timers = TimerLoop(store, holdings, orchestrator.fire, dispatcher.ready, metrics.timer_fired, config.batch_size)
    membership.on_message = cluster.wake_up
    cluster.on_enqueued = dispatcher.ready
    cluster.on_timer_set = timers.hint
    queries = Queries(store, catalog, place, config.partitions)
    sessions = WorkSessions(orchestrator, dispatcher)
    service = ActionService(orchestrator, catalog, dispatcher, sessions, cluster)
    rpc = RpcServer([service, HealthService(cluster)], context=rpc_tls)
    app = create_app(Services(orchestrator, queries, catalog, cluster, metrics), config.body_limit_bytes)
    metrics.gauge("orchy_partitions_held", "Partitions of this node", lambda: len(holdings.leases))
    metrics.gauge("orchy_polls_waiting", "Polls that wait for work", lambda: dispatcher.waiting)
    metrics.gauge("orchy_worker_streams", "Workers that have a stream", lambda: sessions.open)
    metrics.gauge("orchy_worker_connections", "Open connections of workers", lambda: rpc.connections)
    metrics.gauge(
        "orchy_members_live", "Live members of the cluster, as this node sees it", lambda: driver.machine.live
    )
    metrics.gauge(
        "orchy_gossip_health_score", "0: healthy; 7: this node is too slow", lambda: driver.machine.health_score
    )
    for name, help, read in gossip_counts(driver):
        metrics.counter(name, help, read)
    metrics.counters(
        "orchy_unexpected_errors", "Errors that nobody foresaw, by whose border they stopped at", "where", counts
    )
    metrics.counter("orchy_redis_commands", "Commands sent to Redis", lambda: redis.commands_total)
    metrics.counter("orchy_redis_reconnects", "Connections to Redis made again", lambda: redis.reconnects_total)
    return _Node(cluster, keeper, timers, holdings, dispatcher, sessions, rpc, app)


@asynccontextmanager
async def _open_gossip(config: Config) -> AsyncIterator[tuple[GossipMembership, Driver]]:
    """This node as a member, or on its way to be one. Raises StartupError, also later: see GossipMembership.fail."""
    sockets = await open_sockets(config.bind_addr.host, config.bind_addr.port)
    try:
        advertised = config.advertise_addr or HostPort(*sockets.address)
        address = await resolve(advertised.host, advertised.port or sockets.address[1])
        label = cluster_label(config.namespace, config.partitions, FORMAT_VERSION)
        membership = GossipMembership(config.node_name, label)
        machine = Swim(
            name=config.node_name,
            address=address,
            now=boottime(),
            envelope=Envelope(label, config.gossip_key),
            meta=membership.profile.pack(),
            parameters=PROFILES[config.gossip_profile],
        )
        driver = Driver(machine, sockets, membership.on_event)
        membership.attach(driver)
        async with open_service_nursery() as nursery:
            await nursery.start(driver.run)
            nursery.start_soon(membership.fail)
            membership.join([(seed.host, seed.port) for seed in config.cluster_address])
            yield membership, driver
            nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True):
            await sockets.aclose()


def _reconnect(membership: GossipMembership, nodes: Sequence[RegisteredNode]) -> None:
    """Nodes that the store knows, and the gossip perhaps does not."""
    membership.reconnect([address for node in nodes if (address := parse_shown(node.address)) is not None])


@asynccontextmanager
async def _open_store(config: Config, membership: GossipMembership) -> AsyncIterator[tuple[Redis, RedisStore]]:
    """The store that the configuration asks for, or that the cluster has, checked. Raises StartupError."""
    async with _open_addresses(config, membership) as addresses:
        membership.describe(attrs.evolve(membership.profile, store=name_store(addresses)))
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
                log.info("store: %s; %s", report.server, "; ".join(report.promises))
                started = True
                yield redis, RedisStore(redis, config.namespace)
        except StoreError as error:
            if started:
                raise
            raise StartupError(f"{error}; check --redis-addr and that the server runs") from None


@asynccontextmanager
async def _open_addresses(config: Config, membership: GossipMembership) -> AsyncIterator[tuple[Address, ...]]:
    if config.redis_addr:
        yield tuple(TcpAddress(address.host, address.port) for address in config.redis_addr)
        return
    mine = config.advertise_addr or config.bind_addr
    learned = await learn_store(membership, config.cluster_address, mine) if config.cluster_address else None
    if learned is not None:
        yield learned
    else:
        async with open_embedded_redis(config.data_dir) as address:
            yield (address,)


def _open_engine(config: Config) -> AbstractAsyncContextManager[Pool]:
    return open_pool(config.javascript_engine, config.javascript_workers, config.javascript_time_limit_seconds)


async def _agree_on_settings(store: RedisStore, config: Config) -> None:
    """The namespace must have been made for what this node is. Raises ConfigurationError."""
    settings = await store.settings(NamespaceSettings(config.partitions, FORMAT_VERSION))
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
