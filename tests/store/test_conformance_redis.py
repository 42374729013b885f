"""What only a store on Redis can get wrong: keys left behind, half a change, namespaces that mix, too many calls."""

from __future__ import annotations

import pytest

from orchy.errors import ConfigurationError, StoreRefused
from orchy.store.base import Lease, Listing, NamespaceSettings, QueueEntry, TimerKey
from orchy.store.redis import RedisStore, open_redis, scripts

pytestmark = pytest.mark.real

HOUR_MS = 3_600_000
KINDS = pytest.mark.parametrize("kind", ["redis", "cluster"])
PREFIX = b"{%s:0}:"


@pytest.fixture
async def client(kind, settings_of):
    async with open_redis(settings_of(kind)) as redis:
        yield redis


async def keys_of(client, namespace):
    """All keys of a namespace, wherever they are."""
    found = await client.on_every_master("KEYS", f"*{{{namespace}[:}}]*")
    return sorted(key for keys in found.values() for key in keys)


async def contents_of(client, namespace):
    """All that a namespace holds, as the server would write it down."""
    return {
        key: await client.execute("DUMP", key, key=key, safe=True) for key in await keys_of(client, namespace)
    }


def driver_of(drive, store):
    return type(drive)(store)


@pytest.fixture
def drive_on(client, namespace):
    """A store of the test's namespace, or of another."""

    def make(drive_class, suffix=""):
        return drive_class(RedisStore(client, namespace + suffix))

    return make


@pytest.fixture
def driver_class(request):
    """The class of `drive`, without a store."""
    from sys import modules

    return modules[type(request.config.pluginmanager).__module__]
