"""The retention loop: removes flows that ended long enough ago."""

from __future__ import annotations

import logging
from typing import NoReturn

import trio

from orchy.errors import StoreError
from orchy.partition.holdings import Holdings
from orchy.store.flows import FlowStore
from orchy.telemetry.unexpected import Where, note

SCAN_SECONDS = 10.0
#: The most flows that one call removes from one partition.
FLOWS_PER_CALL = 20
#: Between two calls when there is more to remove, so that other work has its turn.
PAUSE_SECONDS = 0.02

log = logging.getLogger(__name__)


async def run_retention(store: FlowStore, holdings: Holdings) -> NoReturn:
    """Remove flows whose retention is over until cancelled."""
    while True:
        try:
            while await store.expire(list(holdings.leases.values()), FLOWS_PER_CALL):
                await trio.sleep(PAUSE_SECONDS)
        except StoreError as error:
            log.warning("can't remove flows whose retention is over: %s", error)
        except Exception as error:
            note(Where.RETENTION, "flows whose retention is over", error)
        await trio.sleep(SCAN_SECONDS)
