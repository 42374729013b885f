"""The composition root: opens the store, wires the ports to their adapters, owns the root nursery, and drains.

The start, in this order: the sockets of the gossip; the store (a node without --redis-addr may have to ask the cluster
where it is), its checks, and the namespace's settings; the ports for clients; this process's name in the store's list
of nodes; the gossip, which admits only nodes of that list; leases and loops; and at last the servers for clients, so
that nobody connects before there is something to serve. The stop goes backwards: the partitions are handed over,
waiting polls are answered, calls under way may end, the gossip says goodbye, the name is released, the store is closed.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial

import attrs
import trio

from orchy import engine
from orchy.actions import SYSTEM_ACTIONS
from orchy.actions.javascript.pool import Pool, open_pool
from orchy.actions.javascript.runner import ScriptRunner
from orchy.addresses import HostPort
from orchy.cluster.cluster import Cluster
from orchy.cluster.membership import GossipMembership, Profile
from orchy.cluster.registry import new_instance
from orchy.dispatch.attempt_leases import AttemptLeases
from orchy.dispatch.offers import Offers
from orchy.engine.lost_attempts import LostAttempts
from orchy.flow.limits import Limits
from orchy.partition.holdings import Holdings
from orchy.partition.leases import LeaseKeeper
from orchy.partition.limits import LEASE_TIMINGS
from orchy.partition.retention import run_retention
from orchy.partition.timers import TimerLoop
from orchy.rest import Guard, HttpLimits, RestServer, Services, create_app
from orchy.ring import owners, partition_of, successors
from orchy.rpc.api.convert import encode_action
from orchy.rpc.api.servicer import ActionService, HealthService
from orchy.rpc.api.sessions import WorkSessions
from orchy.rpc.grpc.limits import CONNECTIONS_MAX, ServerLimits
from orchy.rpc.grpc.server import RpcServer, open_listeners
from orchy.rpc.grpc.tls import server_context
from orchy.runtime.interpreter import describe_interpreter
from orchy.runtime.nurseries import open_service_nursery
from orchy.runtime.open_files import raise_limit, share_of_listener
from orchy.server.config import Config
from orchy.server.gossip import open_gossip_sockets, open_membership, open_registry
from orchy.server.node_metrics import add_cluster_metrics, add_gossip_metrics, add_work_metrics
from orchy.server.opening import Opened, keep_settings, open_store
from orchy.store.limits import DefinitionLimits
from orchy.store.redis import Redis, RedisStore
from orchy.swim.udp import Driver
from orchy.telemetry.metrics import Metrics
from orchy.views.queries import Queries

#: How long the start waits for the first leases; without them the node starts too, and takes them when it can.
FIRST_LEASES_SECONDS = 3.0

log = logging.getLogger(__name__)


@attrs.frozen
class Addresses:
    """Where a node listens, as "host:port" with the actual ports."""

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
    log.debug("%s", describe_interpreter())
    raise_limit()
    rpc_tls = None
    if config.grpc_tls_cert and config.grpc_tls_key:
        rpc_tls = server_context(config.grpc_tls_cert, config.grpc_tls_key)
    async with (
        open_gossip_sockets(config) as (sockets, gossip_address),
        open_store(config) as opened,
        _open_javascript(config) as javascript,
    ):
        ports = await _open_ports(config)
        addresses = Addresses(
            http=str(HostPort(gossip_address[0], ports.http)),
            grpc=str(HostPort(gossip_address[0], ports.grpc)),
            gossip=str(HostPort(*gossip_address)),
        )
        instance = new_instance(addresses.gossip, addresses.grpc, addresses.http)
        profile = Profile(grpc_address=addresses.grpc, http_address=addresses.http, instance=instance)
        async with (
            open_registry(config, opened, profile, addresses.gossip) as registry,
            open_membership(config, sockets, gossip_address, registry, profile, opened) as (membership, driver),
        ):
            node = _wire(config, opened.store, opened.redis, javascript, membership, driver, rpc_tls)
            await _serve(config, node, opened, ports, shutdown, partial(task_status.started, addresses))
            await membership.leave()
    log.info("stopped")


async def _serve(
    config: Config,
    node: _Node,
    opened: Opened,
    ports: _Ports,
    shutdown: trio.Event,
    started: Callable[[], None],
) -> None:
    """Run the loops and the servers until `shutdown`, then drain."""
    async with open_service_nursery() as loops:
        loops.start_soon(node.cluster.run)
        loops.start_soon(node.timers.run)
        loops.start_soon(node.offers.run)
        loops.start_soon(run_retention, opened.store, node.holdings)
        loops.start_soon(keep_settings, node.keeper, node.engine.forget, opened, config)
        with trio.move_on_after(FIRST_LEASES_SECONDS):
            await loops.start(node.keeper.run)
        async with open_service_nursery() as clients:
            stop_rest = trio.Event()
            await loops.start(node.sessions.run)
            loops.start_soon(node.rpc.serve, ports.grpc_listeners)
            clients.start_soon(node.rest.serve, ports.http_listeners, stop_rest, config.drain_seconds)
            started()
            await shutdown.wait()
            log.info("stopping: calls under way have %g s", config.drain_seconds)
            await node.cluster.hand_over()
            node.engine.dispatcher.close()
            stop_rest.set()
            with trio.move_on_after(config.drain_seconds):
                await node.rpc.drain()
        loops.cancel_scope.cancel()


@attrs.frozen
class _Node:
    """The parts that have tasks of their own, or take part in the stop."""

    cluster: Cluster
    engine: engine.Engine
    keeper: LeaseKeeper
    timers: TimerLoop
    holdings: Holdings
    offers: Offers
    sessions: WorkSessions
    rpc: RpcServer
    rest: RestServer


def _wire(
    config: Config,
    store: RedisStore,
    redis: Redis,
    javascript: Pool,
    membership: GossipMembership,
    driver: Driver,
    rpc_tls: ssl.SSLContext | None,
) -> _Node:
    """Connect the ports to their adapters. Nothing runs yet."""
    metrics = Metrics()

    # The partitions of this node.
    holdings = Holdings()
    keeper = LeaseKeeper(store, config.node_name, holdings, LEASE_TIMINGS[config.gossip_profile])
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
    membership.on_message = cluster.receive

    # The engine.
    place = partial(partition_of, partitions=config.partitions)
    core = engine.open(
        store,
        _engine_settings(config),
        system_actions=SYSTEM_ACTIONS,
        runners={"javascript": ScriptRunner(javascript)},
        checker=javascript,
        partition_of=place,
        encode_action=encode_action,
        wakeups=cluster,
        observer=metrics,
    )
    orchestrator, dispatcher = core.orchestrator, core.dispatcher
    holdings.watch(dispatcher.own)
    queries = Queries(store, core.catalog, place, config.partitions)

    # Workers that hold attempts, and the timers of those that are lost.
    leases = AttemptLeases(store, place)
    sessions = WorkSessions(orchestrator, dispatcher, leases, config.worker_lease_seconds)
    lost = LostAttempts(orchestrator, store, sessions, round(config.worker_lease_seconds * 1000))
    timers = TimerLoop(store, holdings, lost.fire, dispatcher.ready, metrics.timer_fired, config.batch_size)

    # Wake-ups, from this node and others, and offers of work.
    offers = Offers(dispatcher, cluster)
    cluster.on_enqueued = dispatcher.ready
    cluster.on_timer_set = timers.hint
    cluster.on_offer = offers.receive

    # The servers for workers and clients.
    service = ActionService(orchestrator, core.catalog, dispatcher, sessions, cluster, leases)
    rpc_limits = ServerLimits(connections_max=share_of_listener(CONNECTIONS_MAX))
    rpc = RpcServer([service, HealthService(cluster)], rpc_limits, rpc_tls)
    services = Services(core.starts, orchestrator, queries, core.catalog, cluster, metrics)
    rest = RestServer(
        create_app(services, config.body_limit_bytes),
        Guard(_http_hosts(config)),
        metrics,
        HttpLimits(body_bytes_max=config.body_limit_bytes, requests_per_second=config.http_requests_per_second),
    )

    add_cluster_metrics(metrics, holdings, keeper, timers, cluster, redis)
    add_work_metrics(metrics, dispatcher, sessions, lost, rpc, rest)
    add_gossip_metrics(metrics, driver)
    return _Node(cluster, core, keeper, timers, holdings, offers, sessions, rpc, rest)


@attrs.frozen
class _Ports:
    """The listeners for clients, and the ports that they really have."""

    grpc_listeners: Sequence[trio.SocketListener]
    grpc: int
    http_listeners: Sequence[trio.SocketListener]
    http: int


async def _open_ports(config: Config) -> _Ports:
    """Listen for clients, and accept nobody yet. Raises StartupError."""
    host = config.bind_addr.host
    grpc_listeners, grpc = await open_listeners(host, config.grpc_port, "--grpc-port")
    http_listeners, http = await open_listeners(host, config.http_port, "--http-port")
    return _Ports(grpc_listeners, grpc, http_listeners, http)


def _engine_settings(config: Config) -> engine.EngineSettings:
    return engine.EngineSettings(
        retention_seconds=config.retention_seconds,
        default_timeout_seconds=config.default_timeout_seconds,
        batch_size=config.batch_size,
        flow_limits=Limits(flow_bytes_max=config.flow_limit_bytes),
        definition_limits=DefinitionLimits(
            workflows_max=config.workflow_limit,
            versions_max=config.workflow_version_limit,
            actions_max=config.action_limit,
        ),
    )


def _http_hosts(config: Config) -> list[str]:
    """The names of this node: those that its operator gave, and its own addresses."""
    own = [config.bind_addr.host] + ([config.advertise_addr.host] if config.advertise_addr else [])
    return [*config.http_host, *(host for host in own if host not in ("0.0.0.0", "::"))]


def _open_javascript(config: Config) -> AbstractAsyncContextManager[Pool]:
    return open_pool(config.javascript_engine, config.javascript_workers, config.javascript_time_limit_seconds)
