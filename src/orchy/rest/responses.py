"""What routes answer, as JSON over HTTP, and what every error looks like."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec
from quart import Response

from orchy.errors import Problem
from orchy.rest import schemas
from orchy.rest.http.refusal import RETRY_AFTER_SECONDS

#: A value as JSON text.
encode = msgspec.json.Encoder().encode


def json_response(value: Any, status: int = 200) -> Response:
    """A JSON answer of Quart's."""
    response = Response(encode(value), status)
    for name, text in response_headers(status):
        response.headers[name.decode()] = text.decode()
    return response


_HEADERS = ((b"content-type", b"application/json"),)
_HEADERS_TO_TRY_AGAIN = (*_HEADERS, (b"retry-after", b"%d" % RETRY_AFTER_SECONDS))


def response_headers(status: int) -> tuple[tuple[bytes, bytes], ...]:
    """The headers of a JSON answer."""
    return _HEADERS_TO_TRY_AGAIN if status in (429, 503) else _HEADERS


async def send_json(send: Any, value: Any, status: int = 200, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
    """Send a JSON answer as messages of ASGI."""
    data = encode(value)
    all_headers = [(b"content-length", b"%d" % len(data)), *response_headers(status), *headers]
    await send({"type": "http.response.start", "status": status, "headers": all_headers})
    await send({"type": "http.response.body", "body": data, "more_body": False})


def error_body(message: str, problems: Iterable[Problem] = ()) -> schemas.Error:
    """What all errors look like."""
    return schemas.Error(message, problem_bodies(problems))


def problem_bodies(problems: Iterable[Problem]) -> list[schemas.Problem]:
    """Problems as they are shown; those that have no place in a text have no line."""
    return [
        schemas.Problem(problem.message, problem.pointer)
        if problem.line is None or problem.column is None
        else schemas.Problem(problem.message, problem.pointer, problem.line, problem.column)
        for problem in problems
    ]


def time_text(ms: int) -> str:
    """Milliseconds since 1970 as ISO 8601 in UTC."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
