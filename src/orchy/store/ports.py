"""The store's port: whatever must be atomic is one method. Redis and the in-memory reference pass the same suite.

Rules every store keeps:

* A method is atomic, and raises from the `StoreError` branch of `orchy.errors`.
* The store's clock is the only one: due times are relative to the commit, times in answers are the store's.
* `fields` of a flow are opaque, except for two that `claim` reads: `r:<actionId>` starts with `<attempt>:<phase>`
  (phase `q`: with the workers), and `p` is set while the flow is paused. The names `v`, `c`, `u`, `z` and `b` are the
  store's own.
* The caller knows a flow's partition; everything of one partition can be changed atomically.
* Names of actions and ids are text without control characters (the callers have checked them).
* Saving a definition over the limits that the caller gives raises LimitReached; nothing was changed.
"""

from __future__ import annotations

from typing import Protocol

from orchy.store.definitions import DefinitionStore
from orchy.store.flows import FlowStore
from orchy.store.leases import LeaseStore
from orchy.store.nodes import NodeStore


class Store(FlowStore, LeaseStore, NodeStore, DefinitionStore, Protocol):
    """All parts of the port."""
