"""The composition root: opens the store, wires the ports to their adapters, owns the root nursery, and drains.

Start: store, its checks, the namespace's settings; then the loops and the leases; then the doors (gRPC, REST),
so that nobody is let in before there is somebody to serve. Stop is the same backwards: the node says that it is
not ready, waiting polls are answered, calls under way may end, the leases are given up, the store is closed.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import trio

from orchy.actions import SYSTEM_ACTIONS
from orchy.actions.javascript.pool import open_pool
from orchy.catalog import Catalog
from orchy.cluster import Alone, Cluster
from orchy.config import Config
from orchy.dispatch import Dispatcher
from orchy.errors import ConfigurationError
from orchy.metrics import Metrics
from orchy.orchestrator import Orchestrator
from orchy.partition.holdings import Holdings
from orchy.partition.leases import LeaseKeeper
from orchy.partition.retention import run_retention
from orchy.partition.sweep import run_sweep
from orchy.partition.timers import TimerLoop
from orchy.queries import Queries
from orchy.rest import create_app
from orchy.rest import serve as serve_rest
from orchy.ring import owners, partition_of
from orchy.rpc import serve as serve_rpc
from orchy.rpc.convert import encode_action
from orchy.store.base import NamespaceSettings
from orchy.store.redis import RedisStore

log = logging.getLogger(__name__)

#: Raised with each change of what the store holds that an older version can't read.
FORMAT_VERSION = 1
