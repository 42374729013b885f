"""The application: its routes, and what holds for all of them."""

from __future__ import annotations

import logging
import time
from functools import partial

from quart import Response, g, request
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from orchy.errors import OrchyError
from orchy.flow.definition import JSON
from orchy.rest.answers import answer_error, error_answer
from orchy.rest.quick import QuickStarts
from orchy.rest.routes import actions, flows, node, workflows
from orchy.rest.services import Services

BODY_LIMIT_BYTES = 10 * 2**20
BODY_TIMEOUT_SECONDS = 30

#: As labels of metrics; all else is "other".
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

log = logging.getLogger(__name__)


def create_app(services: Services, body_limit_bytes: int = BODY_LIMIT_BYTES) -> QuartTrio:
    """The application over its services."""
    app = QuartTrio("orchy", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = body_limit_bytes
    app.config["BODY_TIMEOUT"] = BODY_TIMEOUT_SECONDS
    app.asgi_app = QuickStarts(  # type: ignore[method-assign]
        app.asgi_app,
        partial(flows.execute, services.starts),
        services.metrics.requested,
    )
    app.register_blueprint(workflows.routes(services.catalog))
    app.register_blueprint(actions.routes(services.catalog))
    app.register_blueprint(flows.routes(services.starts, services.orchestrator, services.queries))
    app.register_blueprint(node.routes(services.cluster, services.metrics.text, lambda: _index(app)))

    methods: dict[str, set[str]] = {}  # of the paths that are written in the routes as they are
    for rule in app.url_map.iter_rules():
        if not rule.arguments:
            methods.setdefault(str(rule), set()).update(rule.methods or ())

    @app.errorhandler(OrchyError)
    async def on_orchy_error(error: OrchyError) -> Response:
        return answer_error(error)

    @app.errorhandler(RequestEntityTooLarge)
    async def on_too_large(error: RequestEntityTooLarge) -> Response:
        return error_answer(f"the body is larger than {body_limit_bytes} bytes", 413)

    @app.errorhandler(HTTPException)
    async def on_http_error(error: HTTPException) -> Response:
        sentences = {
            404: f"there is no route {request.method} {request.path}; GET / lists them",
            405: f"{request.path} does not take {request.method}",
            408: f"the body did not arrive within {BODY_TIMEOUT_SECONDS} s",
        }
        code = error.code or 500
        allowed = methods.get(request.path)
        if code == 405 and allowed is None:  # a name in the path fits anything: POST /flow/start is no route
            code = 404
        response = error_answer(sentences.get(code, error.description or error.name), code)
        if code == 405 and allowed is not None:
            response.headers["Allow"] = ", ".join(sorted(allowed))
        return response

    @app.errorhandler(Exception)
    async def on_bug(error: Exception) -> Response:
        log.error("%r %r failed", request.method, request.path, exc_info=error)
        return error_answer("the server failed; its log says why", 500)

    @app.before_request
    async def begin() -> None:
        g.began = time.perf_counter()

    @app.after_request
    async def count(response: Response) -> Response:
        route = str(request.url_rule) if request.url_rule else "none"
        method = request.method if request.method in METHODS else "other"
        services.metrics.requested(method, route, response.status_code, time.perf_counter() - g.began)
        return response

    return app


def _index(app: QuartTrio) -> JSON:
    routes: dict[str, list[str]] = {}
    for rule in app.url_map.iter_rules():
        routes.setdefault(str(rule), []).extend(sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}))
    return {"name": "orchy", "routes": [f"{' '.join(sorted(routes[rule]))} {rule}" for rule in sorted(routes)]}
