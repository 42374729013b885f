"""The metrics that the parts of a node keep themselves, registered in one place."""

from __future__ import annotations

from orchy.cluster.cluster import Cluster
from orchy.dispatch.dispatcher import Dispatcher
from orchy.engine.lost_attempts import LostAttempts
from orchy.partition.holdings import Holdings
from orchy.partition.leases import LeaseKeeper
from orchy.partition.timers import TimerLoop
from orchy.rest import RestServer
from orchy.rpc.api.sessions import WorkSessions
from orchy.rpc.grpc.server import RpcServer
from orchy.store.redis import Redis
from orchy.swim.udp import Driver
from orchy.telemetry.metrics import Metrics
from orchy.telemetry.unexpected import counts


def add_cluster_metrics(
    metrics: Metrics, holdings: Holdings, keeper: LeaseKeeper, timers: TimerLoop, cluster: Cluster, redis: Redis
) -> None:
    """Partitions, the store, and messages of other nodes."""
    metrics.gauge("orchy_partitions_held", "Partitions of this node", lambda: len(holdings.leases))
    metrics.counter("orchy_wakeups_dropped", "Wake-ups that were none", lambda: cluster.wakeups_dropped)
    metrics.counter("orchy_redis_commands", "Commands sent to Redis", lambda: redis.commands_total)
    metrics.counter("orchy_redis_reconnects", "Connections to Redis made again", lambda: redis.reconnects_total)
    metrics.counter("orchy_store_losses", "How often the store had lost what it had", lambda: keeper.losses)
    metrics.counter("orchy_store_clock_jumps", "Jumps of the store's clock", lambda: timers.clock_watch.jumps)
    metrics.counters(
        "orchy_unexpected_errors", "Errors that nobody foresaw, by whose border they stopped at", "where", counts
    )


def add_work_metrics(
    metrics: Metrics,
    dispatcher: Dispatcher,
    sessions: WorkSessions,
    lost: LostAttempts,
    rpc: RpcServer,
    rest: RestServer,
) -> None:
    """Work, workers and clients."""
    metrics.gauge("orchy_polls_waiting", "Polls that wait for work", lambda: dispatcher.waiting)
    metrics.gauge(
        "orchy_work_waiting",
        "Pairs of a partition of this node and an action that have work, as far as it knows",
        lambda: sum(map(len, dispatcher.unclaimed().values())),
    )
    metrics.counter(
        "orchy_actions_handed_out",
        "Attempts handed out, to polls and on streams",
        lambda: dispatcher.handed_out + sessions.handed_out_total,
    )
    metrics.gauge("orchy_worker_streams", "Workers that have a stream", lambda: sessions.open)
    metrics.gauge("orchy_attempts_leased", "Attempts on streams that workers hold", lambda: sessions.leased)
    metrics.counter("orchy_workers_lost", "Attempts that ended as their workers were lost", lambda: lost.lost)
    metrics.counter(
        "orchy_attempts_never_received",
        "Attempts that had not reached their workers and were handed out again",
        lambda: lost.never_received,
    )
    metrics.gauge("orchy_worker_connections", "Open connections of workers", lambda: rpc.connections)
    metrics.gauge("orchy_http_connections", "Open connections to REST", lambda: rest.connections)


def add_gossip_metrics(metrics: Metrics, driver: Driver) -> None:
    """The gossip."""
    traffic, machine = driver.counts, driver.machine
    metrics.gauge("orchy_members_live", "Live members of the cluster, as this node sees it", lambda: machine.live)
    metrics.gauge("orchy_gossip_health_score", "0: healthy; 7: this node is too slow", lambda: machine.health_score)
    metrics.counter("orchy_gossip_datagrams_sent", "Datagrams of the gossip", lambda: traffic["datagrams sent"])
    metrics.counter("orchy_gossip_datagrams_received", "Datagrams that came", lambda: traffic["datagrams received"])
    metrics.counter(
        "orchy_gossip_dropped",
        "Packets and frames that meant nothing here",
        lambda: sum(count for reason, count in machine.counts.items() if reason.startswith("dropped")),
    )
    metrics.counter(
        "orchy_gossip_strangers",
        "Times that a member was named that the store does not know",
        lambda: machine.counts["strangers"],
    )
    metrics.counter("orchy_gossip_errors", "Errors that nobody foresaw", lambda: traffic["errors"])
    metrics.counter(
        "orchy_gossip_failed_probes", "Members that did not answer this node", lambda: machine.counts["failed probes"]
    )
    metrics.counter(
        "orchy_gossip_refutations", "Suspicions of this node to which it objected", lambda: machine.counts["refuted"]
    )
