"""The retention loop: removes flows that ended long enough ago."""

from __future__ import annotations

import logging
from typing import NoReturn

import trio

from orchy.errors import StoreError
from orchy.partition.holdings import Holdings
from orchy.partition.limits import RETENTION_TIMING, RetentionTiming
from orchy.store.flows import FlowStore
from orchy.telemetry.unexpected import Where, note

log = logging.getLogger(__name__)


async def run_retention(store: FlowStore, holdings: Holdings, timing: RetentionTiming = RETENTION_TIMING) -> NoReturn:
    """Remove flows whose retention is over until cancelled."""
    while True:
        try:
            while await store.expire(list(holdings.leases.values()), timing.flows_per_call):
                await trio.sleep(timing.pause_seconds)
        except StoreError as error:
            log.warning("can't remove flows whose retention is over: %s", error)
        except Exception as error:
            note(Where.RETENTION, "flows whose retention is over", error)
        await trio.sleep(timing.scan_seconds)
