"""The application: its routes, and the middleware before all of them."""

from __future__ import annotations

from functools import partial
from typing import Any

from quart import Response, request
from quart_trio import QuartTrio

from orchy.rest.fast_path import StartFastPath
from orchy.rest.middleware.errors import ErrorMiddleware, ErrorResponses
from orchy.rest.middleware.metrics import ROUTE, MetricsMiddleware
from orchy.rest.openapi import Description
from orchy.rest.responses import json_response
from orchy.rest.routes import actions, flows, node, workflows
from orchy.rest.schemas import Index
from orchy.rest.services import Services

BODY_LIMIT_BYTES = 10 * 2**20
BODY_TIMEOUT_SECONDS = 30


def create_app(services: Services, body_limit_bytes: int = BODY_LIMIT_BYTES) -> QuartTrio:
    """The application over its services."""
    app = QuartTrio("orchy", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = body_limit_bytes
    app.config["BODY_TIMEOUT"] = BODY_TIMEOUT_SECONDS
    app.register_blueprint(workflows.routes(services.catalog))
    app.register_blueprint(actions.routes(services.catalog))
    app.register_blueprint(flows.routes(services.starts, services.orchestrator, services.queries))
    description = Description(app.url_map, app.view_functions)
    app.register_blueprint(
        node.routes(services.cluster, services.metrics.text, lambda: _index(app), description.as_json)
    )

    methods: dict[str, set[str]] = {}  # of the paths that are written in the routes as they are
    for rule in app.url_map.iter_rules():
        if not rule.arguments:
            methods.setdefault(str(rule), set()).update(rule.methods or ())
    errors = ErrorResponses(methods, body_limit_bytes, BODY_TIMEOUT_SECONDS)

    @app.errorhandler(Exception)
    async def on_error(error: Exception) -> Response:
        answered = errors.of(error, request.method, request.path)
        response = json_response(answered.body, answered.status)
        for name, text in answered.headers:
            response.headers[name.decode()] = text.decode()
        return response

    @app.before_request
    async def note_route() -> None:
        scope: Any = request.scope
        if request.url_rule is not None:
            scope[ROUTE] = str(request.url_rule)

    fast_path = StartFastPath(app.asgi_app, partial(flows.execute, services.starts))
    app.asgi_app = MetricsMiddleware(  # type: ignore[method-assign]
        ErrorMiddleware(fast_path, errors), services.metrics.requested
    )
    return app


def _index(app: QuartTrio) -> Index:
    routes: dict[str, list[str]] = {}
    for rule in app.url_map.iter_rules():
        routes.setdefault(str(rule), []).extend(sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}))
    return Index("orchy", [f"{' '.join(sorted(routes[rule]))} {rule}" for rule in sorted(routes)])
