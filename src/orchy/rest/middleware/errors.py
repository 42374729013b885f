"""Errors become responses: the one place that says which status and sentence an exception is answered with.

ErrorMiddleware stands around the whole application, the fast path of starts included. Quart catches what its own routes
raise before that gets out; its one error handler asks the same ErrorResponses (see `app`).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence, Set
from typing import Any

import attrs
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from orchy.errors import InvalidInput, NotFound, OrchyError, OutcomeUnknown, Problem, TooLarge, WrongState
from orchy.flow.json.scan import Where
from orchy.flow.json.text import pointer
from orchy.rest import schemas
from orchy.rest.responses import error_body, send_json

log = logging.getLogger(__name__)


@attrs.frozen
class ErrorResponse:
    """What an error is answered with, beside the headers that its status has anyway."""

    status: int
    body: schemas.Error
    headers: tuple[tuple[bytes, bytes], ...] = ()


def error_response(error: OrchyError, where: Where = ()) -> ErrorResponse:
    """That of one of our own errors; its problems are about what stands at `where` in the body."""
    message = str(error)
    problems: Sequence[Problem] = ()
    match error:
        case InvalidInput():
            status, problems = 413 if isinstance(error, TooLarge) else 400, error.problems
        case NotFound():
            status = 404
        case WrongState():
            status = 409
            problems = [attrs.evolve(one, pointer=pointer(where) + one.pointer) for one in error.problems]
        case OutcomeUnknown():
            status, message = 503, f"{error}; look before you repeat it (a start with the same flowId may be repeated)"
        case _:
            status, message = 503, f"{error}; nothing was accepted, try again"
    return ErrorResponse(status, error_body(message, problems))


class ErrorResponses:
    """Those of one application. `methods` are the methods that it has, by path, for paths without parameters."""

    def __init__(self, methods: Mapping[str, Set[str]], body_bytes_max: int, body_timeout_seconds: float) -> None:
        self._methods = methods
        self._body_bytes_max = body_bytes_max
        self._body_timeout_seconds = body_timeout_seconds

    def of(self, error: Exception, method: str, path: str) -> ErrorResponse:
        """That of any exception; a bug of ours is described in the log only."""
        match error:
            case OrchyError():
                return error_response(error)
            case RequestEntityTooLarge():
                return ErrorResponse(413, error_body(f"the body is larger than {self._body_bytes_max} bytes"))
            case HTTPException():
                return self._http_error(error, method, path)
            case _:
                log.error("%r %r failed", method, path, exc_info=error)
                return ErrorResponse(500, error_body("the server failed; its log says why"))

    def _http_error(self, error: HTTPException, method: str, path: str) -> ErrorResponse:
        code = error.code or 500
        allowed = self._methods.get(path)
        if code == 405 and allowed is None:  # a name in the path fits anything: POST /flow/start is no route
            code = 404
        sentences = {
            404: f"there is no route {method} {path}; GET / lists them",
            405: f"{path} does not take {method}",
            408: f"the body did not arrive within {self._body_timeout_seconds:g} s",
        }
        body = error_body(sentences.get(code, error.description or error.name))
        if code == 405 and allowed is not None:
            return ErrorResponse(code, body, ((b"allow", ", ".join(sorted(allowed)).encode()),))
        return ErrorResponse(code, body)


class ErrorMiddleware:
    """Answers what the application inside raises before it has begun to answer; what it raises later ends the
    connection, which is its server's to do."""

    def __init__(self, application: Callable[[Any, Any, Any], Awaitable[None]], responses: ErrorResponses) -> None:
        self._application = application
        self._responses = responses

    async def __call__(self, scope: Any, receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:
        """One request."""
        started = False

        def watched_send(message: Any) -> Awaitable[None]:
            nonlocal started
            started = True
            return send(message)  # not awaited here: a start passes this twice, and a coroutine costs

        try:
            await self._application(scope, receive, watched_send)
        except Exception as error:
            if started or scope["type"] != "http":
                raise
            response = self._responses.of(error, scope["method"], scope["path"])
            await send_json(send, response.body, response.status, response.headers)
