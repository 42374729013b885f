"""Start-up checks: the versions, roles and rights that Orchy needs, and how durable the servers' settings are."""

from __future__ import annotations

import re
from collections.abc import Mapping

import attrs

from orchy.errors import StartupError, StoreRefused
from orchy.store.redis import scripts
from orchy.store.redis.client import Redis
from orchy.store.redis.keys import Keys
from orchy.store.redis.settings import Address

REDIS_MIN = (7, 0)
VALKEY_MIN = (7, 2)
#: How many partitions are probed at most: in a cluster, enough to reach all masters in all likelihood.
RIGHTS_PARTITIONS_MAX = 64


@attrs.frozen
class Report:
    """The servers are fit for use; `promises` says in plain sentences how durable they are."""

    server: str
    promises: tuple[str, ...]


async def check_servers(redis: Redis) -> Report:
    """Check every master. Raises StartupError for one that Orchy can't work with, StoreUnavailable."""
    server = ""
    promises: dict[str, None] = {}
    for address, text in (await redis.on_every_master("INFO")).items():
        info = _parse_info(text)
        server = check_info(info, address)
        for promise in await _promises(redis, address, info):
            promises[promise] = None
    return Report(f"{server}{', a cluster' if redis.is_cluster else ''}", tuple(promises))


async def check_rights(redis: Redis, namespace: str, partitions: int) -> None:
    """Check that the Redis user may run each command of the scripts. Raises StartupError with the refused ones."""
    keys = Keys(namespace)
    advice = "give it the rights that docs/storage.md lists"
    refused: dict[str, str] = {}
    for partition in range(min(partitions, RIGHTS_PARTITIONS_MAX) if redis.is_cluster else 1):
        try:
            # Safe: the script leaves nothing behind.
            reply = await redis.script(scripts.RIGHTS, [keys.partition(partition)], [], safe=True)
        except StoreRefused as error:
            raise StartupError(
                f"no script can be run on keys of the namespace {namespace!r}: {error}; {advice}"
            ) from None
        refused |= {name.decode(): why.decode() for name, why in zip(reply[::2], reply[1::2], strict=True)}
    if refused:
        names, why = ", ".join(sorted(refused)), next(iter(refused.values()))
        raise StartupError(f"the Redis user may not run {names} in scripts ({why}): {advice}")


def check_info(info: Mapping[str, str], address: Address) -> str:
    """The server's name and version. Raises StartupError for an unsuitable version, role or eviction policy."""
    is_valkey = "valkey_version" in info
    name, text, least = (
        ("Valkey", info["valkey_version"], VALKEY_MIN)
        if is_valkey
        else ("Redis", info.get("redis_version", "0"), REDIS_MIN)
    )
    version = tuple(int(number) for number in re.findall(r"\d+", text)[:2])
    if version < least:
        raise StartupError(
            f"{name} {text} at {address} is too old: Orchy needs Redis >= 7.0 or Valkey >= 7.2, so update the server"
        )
    if info.get("role", "master") != "master":
        raise StartupError(f"{name} at {address} is a replica: give --redis-addr its master")
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise StartupError(
            f"{name} at {address} has maxmemory-policy {policy} and would drop flows when memory is short:"
            " set it to noeviction"
        )
    return f"{name} {text}"


async def _promises(redis: Redis, address: Address, info: Mapping[str, str]) -> list[str]:
    if info.get("aof_enabled") != "1":
        if info.get("rdb_last_save_time") is None:
            return [f"{address} does not say how it persists"]
        return [f"{address} has no append-only file: if it stops, what came since its last snapshot is lost"]
    try:
        replies = await redis.on_every_master("CONFIG", "GET", "appendfsync")
    except StoreRefused:
        return [f"{address} has an append-only file; how often it is synced it does not tell"]
    fsync = replies[address][1].decode() if replies[address] else "unknown"
    return {
        "always": [f"{address} syncs each write to disk: an accepted request survives any crash"],
        "everysec": [
            (
                f"{address} syncs to disk each second: an accepted request survives a crash of Orchy and of the store;"
                " a crash of the machine can lose the last second"
            )
        ],
    }.get(fsync, [f"{address} leaves it to the system when to sync: a crash of the machine can lose seconds"])


def _parse_info(text: bytes) -> dict[str, str]:
    lines = (line.partition(":") for line in text.decode("utf-8", "replace").splitlines() if ":" in line)
    return {name: value.strip() for name, _, value in lines}
