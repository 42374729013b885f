"""The store's port: what must be atomic is one method. Redis and the in-memory reference both pass its one suite.

Rules every store keeps:

* A method happens whole or not at all, and raises from the `StoreError` branch of `orchy.errors`.
* The store's clock is the only one: due times are "so long after the commit", times in answers are the store's.
* `fields` of a flow are opaque, but for two that `claim` reads: `r:<actionId>` starts with `<attempt>:<phase>`
  (phase `q`: with the workers), and `p` is there while the flow is paused. The names `v`, `c`, `u`, `z` and `b` are the
  store's own.
* A flow's partition is the caller's to know; everything of one partition can be touched together.
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
    """All of it."""
