"""The composition root: opens the store, wires the ports to their adapters, owns the root nursery, and drains.

Start: store, its checks, the namespace's settings; then leases and loops; then the doors (gRPC, REST), so that nobody
is let in before there is somebody to serve. Stop is the same backwards: the node says that it is not ready, polls that
wait are answered, calls under way may end, the leases are given up, the store is closed.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial

import attrs
import trio
from quart_trio import QuartTrio

from orchy.actions import SYSTEM_ACTIONS
from orchy.actions.javascript.pool import open_pool
from orchy.actions.javascript.port import JavaScriptEngine
from orchy.catalog import Catalog
from orchy.cluster import Alone, Cluster
from orchy.config import Config, HostPort
from orchy.dispatch import Dispatcher
from orchy.errors import ConfigurationError, StartupError, StoreError
from orchy.metrics import Metrics
from orchy.orchestrator import Orchestrator
from orchy.partition.holdings import Holdings
from orchy.partition.leases import LeaseKeeper
from orchy.partition.retention import run_retention
from orchy.partition.timers import TimerLoop
from orchy.queries import Queries
from orchy.rest import Services, create_app
from orchy.rest import serve as serve_rest
from orchy.ring import owners, partition_of
from orchy.rpc.convert import encode_action
from orchy.rpc.server import RpcServer, open_listeners
from orchy.rpc.servicer import ActionService, HealthService
from orchy.store.base import NamespaceSettings
from orchy.store.redis import Address, Redis, RedisSettings, RedisStore, TcpAddress, open_redis
from orchy.store.redis.checks import check_servers
from orchy.store.redis.embedded import open_embedded_redis
from orchy.tasks import open_service_nursery

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
    async with _open_store(config) as (redis, store), _open_engine(config) as engine:
        await _agree_on_settings(store, config)
        if config.cluster_address:
            log.warning("--cluster-address is not used: nodes do not find each other in this version")
        host = config.bind_addr.host
        rpc_listeners, grpc_port = await open_listeners(host, config.grpc_port, "--grpc-port")
        rest_listeners, http_port = await open_listeners(host, config.http_port, "--http-port")
        shown_host = (config.advertise_addr or config.bind_addr).host
        addresses = Addresses(
            http=str(HostPort(shown_host, http_port)),
            grpc=str(HostPort(shown_host, grpc_port)),
            gossip=str(config.advertise_addr or config.bind_addr),
        )
        node = _wire(config, store, redis, engine, addresses)
        async with open_service_nursery() as loops:
            loops.start_soon(node.cluster.run)
            loops.start_soon(node.timers.run)
            loops.start_soon(run_retention, store, node.holdings)
            with trio.move_on_after(FIRST_LEASES_SECONDS):
                await loops.start(node.keeper.run)
            async with open_service_nursery() as doors:
                stop_rest = trio.Event()
                loops.start_soon(node.rpc.serve, rpc_listeners)
                doors.start_soon(serve_rest, node.app, rest_listeners, stop_rest, config.drain_seconds)
                task_status.started(addresses)
                await shutdown.wait()
                log.info("stopping: calls under way have %g s", config.drain_seconds)
                node.cluster.leave()
                node.dispatcher.close()
                stop_rest.set()
                with trio.move_on_after(config.drain_seconds):
                    await node.rpc.drain()
            loops.cancel_scope.cancel()
    log.info("stopped")


@attrs.frozen
class _Node:
    """The parts that have tasks of their own, or are told of the stop."""

    cluster: Cluster
    keeper: LeaseKeeper
    timers: TimerLoop
    holdings: Holdings
    dispatcher: Dispatcher
    rpc: RpcServer
    app: QuartTrio


def _wire(config: Config, store: RedisStore, redis: Redis, engine: JavaScriptEngine, addresses: Addresses) -> _Node:
    """Ports to adapters. Nothing runs yet."""
    metrics = Metrics()
    holdings = Holdings()
    keeper = LeaseKeeper(store, config.node_name, holdings)
    dispatcher = Dispatcher(store, config.batch_size)
    holdings.watch(dispatcher.own)
    cluster = Cluster(
        node=config.node_name,
        partitions=config.partitions,
        membership=Alone(config.node_name, addresses.gossip, addresses.http, addresses.grpc),
        owners=owners,
        keeper=keeper,
        holdings=holdings,
        store=store,
    )
    catalog = Catalog(store, SYSTEM_ACTIONS)
    place = partial(partition_of, partitions=config.partitions)
    orchestrator = Orchestrator(
        store=store,
        catalog=catalog,
        system_actions=SYSTEM_ACTIONS,
        engine=engine,
        encode_action=encode_action,
        partition_of=place,
        wakeups=cluster,
        observer=metrics,
        retention_seconds=config.retention_seconds,
        default_timeout_seconds=config.default_timeout_seconds,
        batch_size=config.batch_size,
    )
    timers = TimerLoop(store, holdings, orchestrator.fire, dispatcher.ready, metrics.timer_fired, config.batch_size)
    cluster.on_enqueued = dispatcher.ready
    cluster.on_timer_set = timers.hint
    queries = Queries(store, catalog, place, config.partitions)
    rpc = RpcServer([ActionService(orchestrator, catalog, dispatcher, cluster), HealthService(cluster)])
    app = create_app(Services(orchestrator, queries, catalog, cluster, metrics), config.body_limit_bytes)
    metrics.gauge("orchy_partitions_held", "Partitions of this node", lambda: len(holdings.leases))
    metrics.gauge("orchy_polls_waiting", "Polls that wait for work", lambda: dispatcher.waiting)
    metrics.gauge("orchy_worker_connections", "Open connections of workers", lambda: rpc.connections)
    metrics.counter("orchy_redis_commands", "Commands sent to Redis", lambda: redis.commands_total)
    metrics.counter("orchy_redis_reconnects", "Connections to Redis made again", lambda: redis.reconnects_total)
    return _Node(cluster, keeper, timers, holdings, dispatcher, rpc, app)


@asynccontextmanager
async def _open_store(config: Config) -> AsyncIterator[tuple[Redis, RedisStore]]:
    """The store that the configuration asks for, checked. Raises StartupError."""
    async with _open_addresses(config) as addresses:
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
async def _open_addresses(config: Config) -> AsyncIterator[tuple[Address, ...]]:
    if config.redis_addr:
        yield tuple(TcpAddress(address.host, address.port) for address in config.redis_addr)
    else:
        async with open_embedded_redis(config.data_dir) as address:
            yield (address,)


def _open_engine(config: Config) -> AbstractAsyncContextManager[JavaScriptEngine]:
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
