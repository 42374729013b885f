"""A replica, a Sentinel, and a proxy that follows Sentinel, as Orchy itself knows only one address of Redis."""

from __future__ import annotations

import redis

from orchy.commands.demo.processes import free_port
from orchy.store.redis.embedded import find_binary
from tests.faults.processes import Process, RedisServer, wait_until
from tests.faults.world import World

NAME = "store"
#: How long the master may be silent before Sentinel considers it dead.
DOWN_AFTER_MS = 1_000


def start_replica(world: World) -> RedisServer:
    """A replica of the run's Redis, in sync when this returns."""
    replica = RedisServer(
        "replica", world.folder, fsync=world.redis.fsync, flags=["--replicaof", f"127.0.0.1 {world.redis.port}"]
    )
    world.others.append(replica)
    replica.start()

    def in_step() -> bool:
        with replica.client() as client:
            return client.info("replication").get("master_link_status") == "up"

    wait_until(in_step, "the replica is not in step")
    return replica


def start_replica_and_sentinel(world: World) -> int:
    """Wait until the replica is in sync and Sentinel knows both servers; returns Sentinel's port."""
    start_replica(world)
    port = free_port()
    config = world.folder / "sentinel.conf"
    config.write_text(
        f"port {port}\nbind 127.0.0.1\nsentinel monitor {NAME} 127.0.0.1 {world.redis.port} 1\n"
        f"sentinel down-after-milliseconds {NAME} {DOWN_AFTER_MS}\nsentinel failover-timeout {NAME} 10000\n"
    )
    sentinel = Process("sentinel", world.folder)
    world.others.append(sentinel)
    sentinel.launch([str(find_binary()), str(config), "--sentinel"])

    def knows() -> bool:
        try:
            with redis.Redis(port=port, socket_timeout=5) as client:
                return len(client.execute_command("SENTINEL", "REPLICAS", NAME)) == 1
        except redis.RedisError:
            return False

    wait_until(knows, "Sentinel does not know the replica")
    return port


def follow(world: World, sentinel_port: int) -> None:
    """Wait until Sentinel names another master that takes writes, and point the proxy and the run to it."""

    def master() -> int:
        with redis.Redis(port=sentinel_port, socket_timeout=5) as client:
            reply = client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME)
        return int(reply[1])

    old = world.redis
    wait_until(lambda: master() != old.port, "Sentinel promotes the replica")
    (new,) = (one for one in world.others if isinstance(one, RedisServer) and one.port == master())
    world.others.append(old)
    world.redis = new
    world.proxy_set()
