"""What routes answer: values as JSON, errors of the tree with their status. The one place where both are decided."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec
from quart import Response

from orchy.errors import (
    InvalidInput,
    NotFound,
    OrchyError,
    OutcomeUnknown,
    Problem,
    TooLarge,
    WrongState,
)
from orchy.flow.definition import JSON

RETRY_AFTER_SECONDS = 1

_encode = msgspec.json.Encoder().encode


def answer(value: JSON, status: int = 200) -> Response:
    """A JSON answer."""
    return Response(_encode(value), status, content_type="application/json")


def error_answer(message: str, status: int, details: Iterable[Problem] = ()) -> Response:
    """An error, in the shape that all have."""
    return answer({"error": message, "details": [problem_json(problem) for problem in details]}, status)


def answer_error(error: OrchyError) -> Response:
    """An error of the tree."""
    match error:
        case TooLarge():
            return error_answer(str(error), 413, error.problems)
        case InvalidInput():
            return error_answer(str(error), 400, error.problems)
        case NotFound():
            return error_answer(str(error), 404)
        case WrongState():
            return error_answer(str(error), 409)
        case OutcomeUnknown():
            message = f"{error}; look before you repeat it (a start with the same flowId may be repeated)"
        case _:
            message = f"{error}; nothing was accepted, try again"
    response = error_answer(message, 503)
    response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return response


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
