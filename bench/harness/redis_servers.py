"""Real Redis servers, single or the masters of a Redis Cluster, and what they have used."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import attrs
import redis

from bench.harness.waiting import cpu_seconds, stop, wait_for
from orchy.commands.demo.processes import free_port
from orchy.store.redis.embedded import find_binary

SLOTS = 16_384


@attrs.frozen
class RedisUse:
    """What the servers have used since they were started."""

    cpu_seconds: tuple[float, ...]
    scripts: int
    script_us: int
    calls: int
    in_bytes: int
    out_bytes: int

    def since(self, before: RedisUse) -> RedisUse:
        """What was used between `before` and this."""
        cpu = tuple(now - was for now, was in zip(self.cpu_seconds, before.cpu_seconds, strict=True))
        fields = ("scripts", "script_us", "calls", "in_bytes", "out_bytes")
        return RedisUse(cpu, *(getattr(self, field) - getattr(before, field) for field in fields))


@attrs.frozen
class RedisServers:
    """One server, or the masters of a cluster."""

    ports: tuple[int, ...]
    pids: tuple[int, ...]

    @property
    def addresses(self) -> str:
        """In the form of `--redis-addr`."""
        return ",".join(f"127.0.0.1:{port}" for port in self.ports)

    def info(self, section: str) -> list[dict[str, object]]:
        """One section of INFO, of each server."""
        answers = []
        for port in self.ports:
            with redis.Redis(port=port) as client:
                answers.append(client.info(section))
        return answers

    def use(self) -> RedisUse:
        """What has been used so far. The question itself costs a few calls."""
        commands, stats = self.info("commandstats"), self.info("stats")
        scripts = [one.get(name, {}) for one in commands for name in ("cmdstat_evalsha", "cmdstat_eval")]
        return RedisUse(
            tuple(cpu_seconds(pid) for pid in self.pids),
            sum(one.get("calls", 0) for one in scripts),
            sum(one.get("usec", 0) for one in scripts),
            sum(one["total_commands_processed"] for one in stats),
            sum(one["total_net_input_bytes"] for one in stats),
            sum(one["total_net_output_bytes"] for one in stats),
        )

    def used_bytes(self) -> int:
        """Memory allocated by all servers."""
        return sum(one["used_memory"] for one in self.info("memory"))

    def keys(self) -> int:
        """The number of keys on all servers."""
        total = 0
        for port in self.ports:
            with redis.Redis(port=port) as client:
                total += client.dbsize()
        return total

    def clear(self) -> None:
        """Remove all keys."""
        for port in self.ports:
            with redis.Redis(port=port) as client:
                client.flushall()

    def wait_for_rewrite(self) -> None:
        """Wait until no append-only file is being rewritten."""
        for port in self.ports:
            with redis.Redis(port=port) as client:
                wait_for(lambda client=client: not client.info("persistence")["aof_rewrite_in_progress"], 300)


@contextmanager
def run_redis(appendfsync: str, *flags: str) -> Iterator[RedisServers]:
    """One Valkey with an append-only file, on a loopback port."""
    with tempfile.TemporaryDirectory() as folder, _run_one(folder, appendfsync, *flags) as (port, pid):
        yield RedisServers((port,), (pid,))


@contextmanager
def run_redis_cluster(appendfsync: str, masters: int) -> Iterator[RedisServers]:
    """Masters that share the slots, without replicas."""
    with ExitStack() as stack:
        started = []
        for _ in range(masters):
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            started.append(stack.enter_context(_run_one(folder, appendfsync, "--cluster-enabled", "yes")))
        ports, pids = zip(*started, strict=True)
        clients = [stack.enter_context(redis.Redis(port=port)) for port in ports]
        bounds = [SLOTS * number // masters for number in range(masters + 1)]
        for number, client in enumerate(clients):
            client.execute_command("CLUSTER ADDSLOTSRANGE", bounds[number], bounds[number + 1] - 1)
            client.execute_command("CLUSTER MEET", "127.0.0.1", ports[0])
        wait_for(lambda: all(_formed(client, masters) for client in clients))
        yield RedisServers(ports, pids)


@contextmanager
def _run_one(folder: str, appendfsync: str, *flags: str) -> Iterator[tuple[int, int]]:
    port = free_port()
    command = [str(find_binary()), "--port", str(port), "--bind", "127.0.0.1", "--dir", folder, "--save", ""]
    command += ["--appendonly", "yes", "--appendfsync", appendfsync, *flags]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with redis.Redis(port=port) as client:
            wait_for(client.ping)
        yield port, process.pid
    finally:
        stop(process)


def _formed(client: redis.Redis, masters: int) -> bool:
    info = client.execute_command("CLUSTER INFO")
    return info["cluster_state"] == "ok" and info["cluster_known_nodes"] == str(masters)
