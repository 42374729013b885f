"""Routes of the node and its cluster."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import trio
from quart import Blueprint, Response

from orchy.flow.definition import JSON
from orchy.rest.operations import operation
from orchy.rest.responses import json_response
from orchy.rest.schemas import Cluster, Index, Live, Ready
from orchy.rest.services import ClusterPort

_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def routes(
    cluster: ClusterPort,
    metrics_text: Callable[[], bytes],
    index: Callable[[], Index],
    description: Callable[[], dict[str, JSON]],
) -> Blueprint:
    """The routes over a cluster and the metrics; `description` is that of all routes, in OpenAPI's form."""
    blueprint = Blueprint("node", __name__)

    @blueprint.get("/")
    @operation("List the routes", answer=Index)
    async def show_index() -> Index:
        await trio.lowlevel.checkpoint()
        return index()

    @blueprint.get("/openapi.json")
    @operation("Describe the routes by OpenAPI 3.1", answer=dict[str, JSON])
    async def describe() -> dict[str, JSON]:
        await trio.lowlevel.checkpoint()
        return description()

    @blueprint.get("/cluster")
    @operation("Show the members of the cluster and who owns its partitions", answer=Cluster)
    async def show_cluster() -> Cluster:
        return msgspec.convert(await cluster.describe(), Cluster)

    @blueprint.get("/health/live")
    @operation("Answer while the process runs", answer=Live)
    async def live() -> Live:
        await trio.lowlevel.checkpoint()
        return Live(live=True)

    @blueprint.get("/health/ready")
    @operation("Say whether this node serves; 503 if it does not", answer=Ready, statuses=(200, 503))
    async def ready() -> Response:
        await trio.lowlevel.checkpoint()
        return json_response(Ready(ready=cluster.ready), 200 if cluster.ready else 503)

    @blueprint.get("/metrics")
    @operation("Show all metrics in Prometheus' text format", answer=str, content_type=_METRICS_TYPE)
    async def metrics() -> Response:
        await trio.lowlevel.checkpoint()
        return Response(metrics_text(), content_type=_METRICS_TYPE)

    return blueprint
