"""Every route of the url map stands behind each middleware, the fast path of starts included.

The guard has a test of its own, on a real node: `test_middleware_guard`.
"""

from __future__ import annotations

import json

import pytest
from werkzeug.exceptions import ImATeapot

from orchy.errors import InvalidInput, NotFound, OutcomeUnknown, Problem, StoreUnavailable, TooLarge, WrongState
from orchy.rest import fast_path
from orchy.rest.middleware.errors import ErrorMiddleware, ErrorResponses
from orchy.rest.middleware.metrics import MetricsMiddleware
from tests.rest.asking import Counted, ask, routes_of, unasked_app

BODY = {"name": "w"}
ROUTES = [(method, path, str(rule)) for method, path, rule in routes_of(unasked_app()) if method != "OPTIONS"]
ERRORS = [
    (NotFound("there is none"), 404, "there is none"),
    (InvalidInput("no", [Problem("why not", "/a", 1, 2)]), 400, "no"),
    (TooLarge("large"), 413, "large"),
    (WrongState("over"), 409, "over"),
    (StoreUnavailable("down"), 503, "down; nothing was accepted, try again"),
    (OutcomeUnknown("lost"), 503, "lost; look before you repeat it (a start with the same flowId may be repeated)"),
    (RuntimeError("secret"), 500, "the server failed; its log says why"),
    (ImATeapot("short and stout"), 418, "short and stout"),
]


def failing(monkeypatch, error):
    """An application each of whose routes raises, and what it counts."""

    async def fail(*arguments, **named):
        raise error

    monkeypatch.setattr("orchy.rest.routes.flows.execute", fail)
    counted = Counted()
    app = unasked_app(counted)
    for endpoint in app.view_functions:
        app.view_functions[endpoint] = fail
    return app, counted


def test_there_are_routes():
    assert len(ROUTES) > 25
    assert ("POST", fast_path.PATH, fast_path.PATH) in ROUTES


@pytest.mark.parametrize(("error", "status", "sentence"), ERRORS, ids=lambda value: type(value).__name__)
async def test_an_error_of_any_route_is_answered_alike_and_counted_once(monkeypatch, caplog, error, status, sentence):
    app, counted = failing(monkeypatch, error)
    for method, path, rule in ROUTES:
        body = BODY if method == "POST" else None
        got, headers, text = await ask(app, method, path, body)
        assert (got, counted.requests.pop()) == (status, (method, rule, status))
        assert headers[b"content-type"] == b"application/json"
        assert (b"retry-after" in headers) == (status == 503)
        answer = json.loads(text)
        assert answer["error"] == sentence
        problems = getattr(error, "problems", ())
        assert [problem["pointer"] for problem in answer["details"]] == [problem.pointer for problem in problems]
        assert counted.requests == []
    assert ("secret" in caplog.text) == (status == 500)


async def test_the_fast_path_and_the_frameworks_own_route_answer_alike(monkeypatch):
    for error, *_ in ERRORS:
        app, _ = failing(monkeypatch, error)
        fast = await ask(app, "POST", fast_path.PATH, BODY)
        slow = await ask(app, "POST", fast_path.PATH, BODY, length_is_known=False)
        assert (fast[0], fast[2]) == (slow[0], slow[2])


@pytest.mark.parametrize(
    ("method", "path", "status", "counted_as"),
    [
        ("GET", "/nope", 404, ("GET", "none", 404)),
        ("BREW", "/coffee", 404, ("BREW", "none", 404)),
        ("DELETE", "/flow", 405, ("DELETE", "none", 405)),
        ("GET", "/flow/execute", 404, ("GET", "/flow/<flow_id>", 404)),
    ],
)
async def test_what_is_no_route_is_counted_without_its_path(method, path, status, counted_as):
    counted = Counted()
    app = unasked_app(counted)
    if status == 404 and counted_as[1] != "none":

        async def fail(flow_id):
            raise NotFound(f"there is no flow {flow_id}")

        app.view_functions["flows.show"] = fail
    got, headers, _ = await ask(app, method, path)
    assert (got, counted.requests) == (status, [counted_as])
    assert (b"allow" in {name.lower() for name in headers}) == (status == 405)


async def test_what_fails_after_its_answer_began_is_left_to_the_server():
    async def half(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("in the middle")

    counted, sent = Counted(), []

    async def send(message):
        sent.append(message["type"])

    app = MetricsMiddleware(ErrorMiddleware(half, ErrorResponses({}, 1, 1)), counted.requested)
    with pytest.raises(RuntimeError):
        await app({"type": "http", "method": "GET", "path": "/"}, None, send)
    assert sent == ["http.response.start"]
    assert counted.requests == [("GET", "none", 200)]


async def test_what_is_no_request_of_http_passes_through():
    async def lifespan(scope, receive, send):
        raise RuntimeError("no lifespan here")

    counted = Counted()
    app = MetricsMiddleware(ErrorMiddleware(lifespan, ErrorResponses({}, 1, 1)), counted.requested)
    with pytest.raises(RuntimeError, match="no lifespan"):
        await app({"type": "lifespan"}, None, None)
    assert counted.requests == []
