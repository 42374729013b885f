"""What routes answer: values as JSON, errors of the tree with their status. The one place where both are decided."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import attrs
import msgspec
from quart import Response

from orchy.errors import InvalidInput, NotFound, OrchyError, OutcomeUnknown, Problem, TooLarge, WrongState
from orchy.flow.definition import JSON
from orchy.flow.json.scan import Where
from orchy.flow.json.text import pointer
from orchy.rest.http.refusal import RETRY_AFTER_SECONDS

#: A value as JSON text.
encode = msgspec.json.Encoder().encode


def answer(value: JSON, status: int = 200) -> Response:
    """A JSON answer."""
    response = Response(encode(value), status)
    for name, text in headers_of(status):
        response.headers[name.decode()] = text.decode()
    return response


def headers_of(status: int) -> list[tuple[bytes, bytes]]:
    """What stands above a JSON answer."""
    headers = [(b"content-type", b"application/json")]
    if status in (429, 503):
        headers.append((b"retry-after", b"%d" % RETRY_AFTER_SECONDS))
    return headers


def error_answer(message: str, status: int, details: Iterable[Problem] = ()) -> Response:
    """An error, in the shape that all have."""
    return answer(error_body(message, details), status)


def error_body(message: str, details: Iterable[Problem] = ()) -> dict[str, JSON]:
    """What all errors look like."""
    return {"error": message, "details": [problem_json(problem) for problem in details]}


def answer_error(error: OrchyError) -> Response:
    """An error of the tree."""
    status, body = told(error)
    return answer(body, status)


def told(error: OrchyError, where: Where = ()) -> tuple[int, dict[str, JSON]]:
    """The status of an error and the body that tells it; its problems are about what stands at `where` in the body."""
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
    return status, error_body(message, problems)


def problem_json(problem: Problem) -> dict[str, Any]:
    """One problem."""
    shown: dict[str, Any] = {"message": problem.message, "pointer": problem.pointer}
    if problem.line is not None:
        shown |= {"line": problem.line, "column": problem.column}
    return shown


def time_text(ms: int | None) -> str | None:
    """Milliseconds since 1970 as ISO 8601 in UTC."""
    if ms is None:
        return None
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
