"""The quarantine of the reference store."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import trio

from orchy.store.flows import HistoryEntry
from orchy.store.memory.definitions import MemoryDefinitions
from orchy.store.quarantine import Quarantine


class MemoryQuarantine(MemoryDefinitions):
    """`QuarantineStore`, on what a subclass keeps of each partition."""

    @abstractmethod
    def _partition(self, partition: int) -> Any:
        """The contents of a partition."""

    async def quarantine(self, partition: int, flow_id: str, error: str, entry: bytes) -> bool:
        await trio.lowlevel.checkpoint()
        flow = self._partition(partition).flows.get(flow_id)
        if flow is None or flow.ended_ms is not None or flow.quarantine is not None:
            return False
        now_ms = self._now_ms()
        flow.quarantine = Quarantine(now_ms, error)
        flow.history.append(HistoryEntry(now_ms, entry))
        return True

    async def release_flow(self, partition: int, flow_id: str, entry: bytes) -> bool | None:
        await trio.lowlevel.checkpoint()
        timers, flow = self._partition(partition).timers, self._partition(partition).flows.get(flow_id)
        if flow is None:
            return None
        if flow.quarantine is None:
            return False
        now_ms = self._now_ms()
        for key in flow.set_aside:
            timers.setdefault(key, now_ms)
        flow.quarantine = None
        flow.set_aside.clear()
        flow.history.append(HistoryEntry(now_ms, entry))
        return True
