"""Definitions and settings of a namespace on Redis: keys that belong to no partition."""

from __future__ import annotations

from orchy.runtime.gather import gather
from orchy.store.definitions import NamespaceSettings, StoredWorkflow
from orchy.store.limits import USUAL_LIMITS, DefinitionLimits
from orchy.store.redis import scripts
from orchy.store.redis.client import Redis
from orchy.store.redis.connection import Argument
from orchy.store.redis.keys import Keys

WORKFLOWS_AT_ONCE = 50


class RedisDefinitions:
    """The port `DefinitionStore`, for one namespace."""

    def __init__(self, redis: Redis, namespace: str) -> None:
        self._redis = redis
        self._keys = Keys(namespace)

    async def settings(self, wanted: NamespaceSettings, place: str = "") -> NamespaceSettings:
        args: list[Argument] = [wanted.partitions, wanted.format_version, wanted.identity, place]
        # Safe: the second time it finds what it made; `renewed` may then be False.
        reply = await self._redis.script(scripts.SETTINGS, [self._keys.settings()], args, safe=True)
        partitions, version, identity, renewed = reply
        return NamespaceSettings(int(partitions), int(version), identity.decode(), bool(renewed))

    async def save_workflow(
        self, name: str, source: bytes, limits: DefinitionLimits = USUAL_LIMITS
    ) -> tuple[int, bool]:
        keys = [self._keys.workflow(name), self._keys.workflow_names(), self._keys.workflow_names_ever()]
        args: list[Argument] = [name, source, limits.workflows_max, limits.versions_max, limits.versions_bytes_max]
        # Safe: the second time it finds the text; `created` may then be False.
        version, created = await self._redis.script(scripts.SAVE_WORKFLOW, keys, args, safe=True)
        if version < 0:
            too_many = {3: limits.too_many_workflows, 4: limits.too_many_versions, 5: limits.too_many_bytes}
            raise too_many[created](name)
        return int(version), bool(created)

    async def workflow(self, name: str, version: int | None = None) -> StoredWorkflow | None:
        if version is None:
            version = await self.latest_version(name)
            if version is None:
                return None
        key = self._keys.workflow(name)
        source = await self._redis.execute("HGET", key, version, key=key, safe=True)
        return None if source is None else StoredWorkflow(name, version, source)

    async def latest_version(self, name: str) -> int | None:
        key = self._keys.workflow(name)
        latest = await self._redis.execute("HGET", key, "latest", key=key, safe=True)
        return None if latest is None else int(latest)

    async def workflows(self) -> list[StoredWorkflow]:
        key = self._keys.workflow_names()
        names = sorted(name.decode() for name in await self._redis.execute("SMEMBERS", key, key=key, safe=True))
        found: list[StoredWorkflow | None] = []
        for first in range(0, len(names), WORKFLOWS_AT_ONCE):
            found += await gather(self.workflow, names[first : first + WORKFLOWS_AT_ONCE])
        return [workflow for workflow in found if workflow is not None]

    async def delete_workflow(self, name: str) -> bool:
        keys = [self._keys.workflow(name), self._keys.workflow_names()]
        # Not safe: the answer would differ the second time.
        return bool(await self._redis.script(scripts.DELETE_WORKFLOW, keys, [name], safe=False))

    async def save_action(self, name: str, source: bytes, limits: DefinitionLimits = USUAL_LIMITS) -> bool:
        args: list[Argument] = [name, source, limits.actions_max]
        # Not safe: it could undo what another node saved in between.
        created = await self._redis.script(scripts.SAVE_ACTION, [self._keys.actions()], args, safe=False)
        if created < 0:
            raise limits.too_many_actions(name)
        return bool(created)

    async def actions(self) -> dict[str, bytes]:
        key = self._keys.actions()
        reply = await self._redis.execute("HGETALL", key, key=key, safe=True)
        return {name.decode(): source for name, source in zip(reply[::2], reply[1::2], strict=True)}

    async def delete_action(self, name: str) -> bool:
        key = self._keys.actions()
        return bool(await self._redis.execute("HDEL", key, name, key=key, safe=False))
