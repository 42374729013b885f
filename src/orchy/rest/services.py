"""What the routes ask, as ports."""

from __future__ import annotations

from typing import Protocol

import attrs

from orchy.engine.catalog import Catalog
from orchy.engine.orchestrator import Orchestrator
from orchy.engine.starts import Starts
from orchy.flow.definition import JSON
from orchy.views.queries import Queries


class ClusterPort(Protocol):
    """What REST asks of the cluster."""

    @property
    def ready(self) -> bool:
        """Whether this node serves."""
        ...

    async def describe(self) -> dict[str, JSON]:
        """The body of `GET /cluster`, as `schemas.Cluster` has it."""
        ...


class MetricsPort(Protocol):
    """What REST asks of the metrics."""

    def requested(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request was answered. `method` may be any word that a client sent; `route` is one of ours."""
        ...

    def text(self) -> bytes:
        """All metrics, in Prometheus' text format."""
        ...


@attrs.frozen
class Services:
    """Everything that the routes ask."""

    starts: Starts
    orchestrator: Orchestrator
    queries: Queries
    catalog: Catalog
    cluster: ClusterPort
    metrics: MetricsPort
