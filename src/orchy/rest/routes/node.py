"""Routes of the node and its cluster."""

from __future__ import annotations

from collections.abc import Callable

import trio
from quart import Blueprint, Response

from orchy.flow.definition import JSON
from orchy.rest.answers import answer
from orchy.rest.services import ClusterFace


def routes(cluster: ClusterFace, metrics_text: Callable[[], bytes], index: Callable[[], JSON]) -> Blueprint:
    """The routes over a cluster and the metrics."""
    blueprint = Blueprint("node", __name__)

    @blueprint.get("/")
    async def show_index() -> Response:
        await trio.lowlevel.checkpoint()
        return answer(index())

    @blueprint.get("/cluster")
    async def show() -> Response:
        return answer(await cluster.describe())

    @blueprint.get("/health/live")
    async def live() -> Response:
        await trio.lowlevel.checkpoint()
        return answer({"live": True})

    @blueprint.get("/health/ready")
    async def ready() -> Response:
        await trio.lowlevel.checkpoint()
        return answer({"ready": cluster.ready}, 200 if cluster.ready else 503)

    @blueprint.get("/metrics")
    async def metrics() -> Response:
        await trio.lowlevel.checkpoint()
        return Response(metrics_text(), content_type="text/plain; version=0.0.4; charset=utf-8")

    return blueprint
