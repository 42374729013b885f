"""The store on Redis or Valkey: client, scripts, start-up checks, and a server of the node's own."""

from orchy.store.redis.client import Redis, open_redis
from orchy.store.redis.settings import Address, RedisSettings, TcpAddress, UnixAddress
from orchy.store.redis.store import RedisStore

__all__ = ["Address", "Redis", "RedisSettings", "RedisStore", "TcpAddress", "UnixAddress", "open_redis"]
