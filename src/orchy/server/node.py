"""The composition root: opens the store, wires the ports to their adapters, owns the root nursery, and drains.

Start: the store, its checks, the namespace's settings and identity (where the store is may have to be asked of the
cluster); this process's name in the store's list of nodes; the gossip, which lets only those in that are in that list;
then leases and loops; then the doors (gRPC, REST), so that nobody is let in before there is somebody to serve. Stop is
the same backwards: the partitions are handed over, polls that wait are answered, calls under way may end, the gossip
says goodbye, the name is given up, the store is closed.
"""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial

import attrs
import trio

from orchy import engine
from orchy.actions import SYSTEM_ACTIONS
from orchy.actions.javascript.pool import Pool, open_pool
from orchy.actions.javascript.runner import ScriptRunner
from orchy.addresses import HostPort
from orchy.cluster.cluster import Cluster
from orchy.cluster.joining import name_store
from orchy.cluster.membership import GossipMembership, Profile, gossip_counts
from orchy.cluster.registry import Registry, new_instance
from orchy.dispatch.attempt_leases import AttemptLeases
from orchy.dispatch.dispatcher import Dispatcher
from orchy.dispatch.offers import Offers
from orchy.engine.lost_attempts import LostAttempts
from orchy.flow.limits import Limits
from orchy.partition.holdings import Holdings
from orchy.partition.leases import LEASE_TIMES, LeaseKeeper
from orchy.partition.retention import run_retention
from orchy.partition.timers import TimerLoop
from orchy.rest import Guard, RestServer, Services, create_app
from orchy.ring import owners, partition_of, successors
from orchy.rpc.api.convert import encode_action
from orchy.rpc.api.servicer import ActionService, HealthService
from orchy.rpc.api.sessions import WorkSessions
from orchy.rpc.grpc.limits import CONNECTIONS_MAX, ServerLimits
from orchy.rpc.grpc.server import RpcServer, open_listeners
from orchy.rpc.grpc.tls import server_context
from orchy.runtime.nurseries import open_service_nursery
from orchy.runtime.open_files import raise_limit, share_of_door
from orchy.server.config import Config
from orchy.server.opening import Opened, door_of, keep_settings, label_of, open_store
from orchy.store.limits import DefinitionLimits
from orchy.store.redis import Redis, RedisStore
from orchy.swim.core import Introducer
from orchy.swim.envelope import Envelope
from orchy.swim.machine import Swim
from orchy.swim.messages import Address as SwimAddress
from orchy.swim.parameters import PROFILES
from orchy.swim.udp import Driver, Sockets, boottime, open_sockets, resolve
from orchy.telemetry.metrics import Metrics
from orchy.telemetry.unexpected import counts
from orchy.views.queries import Queries

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
    raise_limit()
    rpc_tls = None
    if config.grpc_tls_cert and config.grpc_tls_key:
        rpc_tls = server_context(config.grpc_tls_cert, config.grpc_tls_key)
    async with (
        _open_sockets(config) as (sockets, gossip_address),
        open_store(config) as opened,
        _open_javascript(config) as javascript,
    ):
        host = config.bind_addr.host
        rpc_listeners, grpc_port = await open_listeners(host, config.grpc_port, "--grpc-port")
        rest_listeners, http_port = await open_listeners(host, config.http_port, "--http-port")
        addresses = Addresses(
            http=str(HostPort(gossip_address[0], http_port)),
            grpc=str(HostPort(gossip_address[0], grpc_port)),
            gossip=str(HostPort(*gossip_address)),
        )
        instance = new_instance(addresses.gossip, addresses.grpc, addresses.http)
        profile = Profile(grpc_address=addresses.grpc, http_address=addresses.http, instance=instance)
        registry = Registry(opened.store, config.node_name, instance, addresses.gossip)
        async with open_service_nursery() as belonging:
            await belonging.start(registry.run)
            async with _open_gossip(config, sockets, gossip_address, registry, profile, opened) as gossip:
                membership, driver = gossip
                node = _wire(config, opened.store, opened.redis, javascript, membership, driver, rpc_tls)
                async with open_service_nursery() as loops:
                    loops.start_soon(node.cluster.run)
                    loops.start_soon(node.timers.run)
                    loops.start_soon(node.offers.run)
                    loops.start_soon(run_retention, opened.store, node.holdings)
                    loops.start_soon(keep_settings, node.keeper, node.engine.forget, opened, config)
                    with trio.move_on_after(FIRST_LEASES_SECONDS):
                        await loops.start(node.keeper.run)
                    async with open_service_nursery() as doors:
                        stop_rest = trio.Event()
                        await loops.start(node.sessions.run)
                        loops.start_soon(node.rpc.serve, rpc_listeners)
                        doors.start_soon(node.rest.serve, rest_listeners, stop_rest, config.drain_seconds)
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
            belonging.cancel_scope.cancel()
    log.info("stopped")


@attrs.frozen
class _Node:
    """The parts that have tasks of their own, or are told of the stop."""

    cluster: Cluster
    engine: engine.Engine
    keeper: LeaseKeeper
    timers: TimerLoop
    holdings: Holdings
    dispatcher: Dispatcher
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
    """Ports to adapters. Nothing runs yet."""
    metrics = Metrics()
    holdings = Holdings()
    keeper = LeaseKeeper(store, config.node_name, holdings, LEASE_TIMES[config.gossip_profile])
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
    leases = AttemptLeases(store, place)
    sessions = WorkSessions(orchestrator, dispatcher, leases, config.worker_lease_seconds)
    lost = LostAttempts(orchestrator, store, sessions, round(config.worker_lease_seconds * 1000))
    timers = TimerLoop(store, holdings, lost.fire, dispatcher.ready, metrics.timer_fired, config.batch_size)
    membership.on_message = cluster.wake_up
    cluster.on_enqueued = dispatcher.ready
    cluster.on_timer_set = timers.hint
    offers = Offers(dispatcher, cluster)
    cluster.on_offer = offers.hear
    queries = Queries(store, core.catalog, place, config.partitions)
    service = ActionService(orchestrator, core.catalog, dispatcher, sessions, cluster, leases)
    rpc_limits = ServerLimits(connections_max=share_of_door(CONNECTIONS_MAX))
    rpc = RpcServer([service, HealthService(cluster)], rpc_limits, rpc_tls)
    services = Services(core.starts, orchestrator, queries, core.catalog, cluster, metrics)
    rest = RestServer(
        create_app(services, config.body_limit_bytes),
        Guard(_http_hosts(config)),
        metrics,
        config.body_limit_bytes,
        config.http_requests_per_second,
    )
    metrics.gauge("orchy_partitions_held", "Partitions of this node", lambda: len(holdings.leases))
    metrics.gauge("orchy_polls_waiting", "Polls that wait for work", lambda: dispatcher.waiting)
    metrics.gauge(
        "orchy_work_waiting",
        "Pairs of a partition of this node and an action that have work, as far as it knows",
        lambda: sum(map(len, dispatcher.unclaimed().values())),
    )
    metrics.gauge("orchy_worker_streams", "Workers that have a stream", lambda: sessions.open)
    metrics.gauge("orchy_http_connections", "Open connections to REST", lambda: rest.connections)
    metrics.gauge("orchy_attempts_leased", "Attempts on streams that workers hold", lambda: sessions.leased)
    metrics.counter(
        "orchy_actions_handed_out",
        "Attempts handed out, to polls and on streams",
        lambda: dispatcher.handed_out + sessions.handed_out_total,
    )
    metrics.counter("orchy_workers_lost", "Attempts that ended as their workers were lost", lambda: lost.lost)
    metrics.counter(
        "orchy_attempts_never_received",
        "Attempts that had not reached their workers and were handed out again",
        lambda: lost.never_received,
    )
    metrics.gauge("orchy_worker_connections", "Open connections of workers", lambda: rpc.connections)
    metrics.gauge(
        "orchy_members_live", "Live members of the cluster, as this node sees it", lambda: driver.machine.live
    )
    metrics.gauge(
        "orchy_gossip_health_score", "0: healthy; 7: this node is too slow", lambda: driver.machine.health_score
    )
    for name, help, read in gossip_counts(driver):
        metrics.counter(name, help, read)
    metrics.counter("orchy_wakeups_dropped", "Wake-ups that were none", lambda: cluster.wakeups_dropped)
    metrics.counters(
        "orchy_unexpected_errors", "Errors that nobody foresaw, by whose border they stopped at", "where", counts
    )
    metrics.counter("orchy_redis_commands", "Commands sent to Redis", lambda: redis.commands_total)
    metrics.counter("orchy_store_losses", "How often the store had lost what it had", lambda: keeper.losses)
    metrics.counter("orchy_store_clock_jumps", "Jumps of the store's clock", lambda: timers.clock_watch.jumps)
    metrics.counter("orchy_redis_reconnects", "Connections to Redis made again", lambda: redis.reconnects_total)
    return _Node(cluster, core, keeper, timers, holdings, dispatcher, offers, sessions, rpc, rest)


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
    """What this node may be called: by its operator's word, and by its own addresses."""
    own = [config.bind_addr.host] + ([config.advertise_addr.host] if config.advertise_addr else [])
    return [*config.http_host, *(host for host in own if host not in ("0.0.0.0", "::"))]


@asynccontextmanager
async def _open_sockets(config: Config) -> AsyncIterator[tuple[Sockets, SwimAddress]]:
    """The gossip's sockets, and the address that others are told. Nobody is answered yet. Raises StartupError."""
    sockets = await open_sockets(config.bind_addr.host, config.bind_addr.port)
    try:
        advertised = config.advertise_addr or HostPort(*sockets.address)
        yield sockets, await resolve(advertised.host, advertised.port or sockets.address[1])
    finally:
        with trio.CancelScope(shield=True):
            await sockets.aclose()


@asynccontextmanager
async def _open_gossip(
    config: Config, sockets: Sockets, address: SwimAddress, registry: Registry, profile: Profile, opened: Opened
) -> AsyncIterator[tuple[GossipMembership, Driver]]:
    """This node as a member, or on its way to be one. Raises StartupError, also later: see GossipMembership.fail."""
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
        yields=False,  # the name is this node's: the store says so
        introducer=Introducer(door_of(config), name_store(opened.addresses)),
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


def _open_javascript(config: Config) -> AbstractAsyncContextManager[Pool]:
    return open_pool(config.javascript_engine, config.javascript_workers, config.javascript_time_limit_seconds)
