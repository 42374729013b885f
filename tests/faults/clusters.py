"""A Redis Cluster of three masters and a replica of each, which takes over when its master is lost."""

from __future__ import annotations

from pathlib import Path

import attrs
import redis
from redis.cluster import ClusterNode
from redis.exceptions import RedisClusterException

from orchy.commands.demo.processes import free_port
from tests.faults.processes import RedisServer, wait_until

MASTERS = 3
SLOTS = 16_384
#: How long a master may be silent before the others consider it lost.
NODE_TIMEOUT_MS = 1_000


@attrs.define(eq=False)
class RedisCluster:
    """Six servers in place of the one that other runs have."""

    folder: Path
    fsync: str
    servers: list[RedisServer] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.servers = []
        for number in range(2 * MASTERS):
            flags = ["--cluster-enabled", "yes", "--cluster-node-timeout", str(NODE_TIMEOUT_MS)]
            flags += ["--cluster-port", str(free_port()), "--cluster-replica-validity-factor", "0"]
            self.servers.append(RedisServer(f"redis-{number}", self.folder, fsync=self.fsync, flags=flags))

    @property
    def address(self) -> str:
        """The --redis-addr of the nodes."""
        return ",".join(f"127.0.0.1:{server.port}" for server in self.servers)

    def start(self) -> None:
        """Start the servers, and make a cluster of them."""
        for server in self.servers:
            server.start()
        clients = [server.client() for server in self.servers]
        bounds = [SLOTS * number // MASTERS for number in range(MASTERS + 1)]
        first = self.servers[0]
        bus = first.flags[first.flags.index("--cluster-port") + 1]
        for number, client in enumerate(clients):
            if number < MASTERS:
                client.execute_command("CLUSTER ADDSLOTSRANGE", bounds[number], bounds[number + 1] - 1)
            client.execute_command("CLUSTER MEET", "127.0.0.1", first.port, bus)

        def all_known() -> bool:
            return all(
                client.execute_command("CLUSTER INFO")["cluster_known_nodes"] == str(2 * MASTERS) for client in clients
            )

        wait_until(all_known, "the servers of the Redis Cluster do not know each other")
        for number in range(MASTERS):
            master_id = clients[number].execute_command("CLUSTER MYID").decode()
            clients[MASTERS + number].execute_command("CLUSTER REPLICATE", master_id)
        wait_until(self.whole, "the Redis Cluster did not form")
        for client in clients:
            client.close()

    def client(self) -> redis.RedisCluster:
        """Raises redis.RedisError."""
        nodes = [ClusterNode("127.0.0.1", server.port) for server in self.servers if server.alive]
        try:
            return redis.RedisCluster(startup_nodes=nodes, socket_timeout=5, socket_connect_timeout=5)
        except RedisClusterException as error:
            raise redis.ConnectionError(str(error)) from error

    def masters(self) -> list[RedisServer]:
        """The servers that are masters now."""
        return [server for server in self.servers if server.alive and _replication(server).get("role") == "master"]

    def whole(self) -> bool:
        """Whether each live server sees all slots served, and each replica is in sync with its master."""
        living = [server for server in self.servers if server.alive]
        if len(self.masters()) != MASTERS:
            return False
        for server in living:
            with server.client() as client:
                if client.execute_command("CLUSTER INFO")["cluster_state"] != "ok":
                    return False
            about = _replication(server)
            if about["role"] == "slave" and about["master_link_status"] != "up":
                return False
        return True

    def end(self) -> None:
        """End all servers."""
        for server in self.servers:
            server.end()


def _replication(server: RedisServer) -> dict[str, str]:
    with server.client() as client:
        about: dict[str, str] = client.info("replication")
        return about
