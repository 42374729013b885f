"""Counts unexpected exceptions by flow; after a few, the flow goes into quarantine and its timers are set aside.

Without it, a bug that one flow triggers would recur with its timers for ever, on one owner after the other. Results,
events and commands are still tried, and their senders get the error. Nodes count separately; the quarantine itself is
in the store.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable

from orchy.errors import FlowFault, StoreError
from orchy.flow import codec
from orchy.flow.effects import Record, RecordType
from orchy.store.quarantine import QuarantineStore
from orchy.telemetry.unexpected import Where, note

#: The number of failures after which a flow goes into quarantine.
FAILURES_MAX = 5
#: For how many flows failures are counted.
FLOWS_MAX = 10_000
ERROR_CHARACTERS_MAX = 1_000

log = logging.getLogger(__name__)


class Failures:
    """The failures of flows on this node."""

    def __init__(self, store: QuarantineStore, partition_of: Callable[[str], int]) -> None:
        self._store = store
        self._partition_of = partition_of
        self._counts: OrderedDict[str, int] = OrderedDict()

    async def failed(self, flow_id: str, error: Exception) -> FlowFault:
        """Count a failure to move a flow. Gives the error for the caller."""
        note(Where.FLOW, f"flow {flow_id}", error)
        what = f"{type(error).__name__}: {error}"[:ERROR_CHARACTERS_MAX].encode(errors="replace").decode()
        count = self._counts[flow_id] = self._counts.pop(flow_id, 0) + 1
        if len(self._counts) > FLOWS_MAX:
            self._counts.popitem(last=False)
        if count >= FAILURES_MAX:
            entry = codec.encode_record(Record(RecordType.QUARANTINED, detail=what))
            try:
                if await self._store.quarantine(self._partition_of(flow_id), flow_id, what, entry):
                    log.error("flow %s is in quarantine after %d failures: %s", flow_id, count, what)
                self._counts.pop(flow_id, None)  # may be evicted already, if many others failed meanwhile
            except StoreError as store_error:  # the next failure tries again
                log.warning("flow %s can't be put into quarantine: %s", flow_id, store_error)
        return FlowFault(
            f"flow {flow_id} can't be moved because of an error in Orchy ({what}); the server's log has more"
        )
