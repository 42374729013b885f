"""An operation: one method of one route, with the Structs that it takes and answers.

The Structs that `operation` names are those by which the request is decoded and the answer encoded, and `openapi`
describes them: so what is described is what happens.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

import attrs
from msgspec import Struct
from quart import Response, request

from orchy.rest.requests import decode, decode_query, parse_body, read_body
from orchy.rest.responses import json_response

View = Callable[..., Awaitable[Response]]


@attrs.frozen
class Operation:
    """`errors` are the statuses that it may be answered with beside those that any route may (see `openapi`).

    `body` is decoded for the route. `raw_body` is handed to it as bytes, as the route has a reader of its own.
    """

    summary: str
    answer: Any
    body: type[Struct] | None = None
    raw_body: Any = None
    query: type[Struct] | None = None
    errors: tuple[int, ...] = ()
    statuses: tuple[int, ...] = (200,)
    content_type: str = "application/json"


def operation(
    summary: str,
    *,
    answer: Any,
    body: type[Struct] | None = None,
    raw_body: Any = None,
    query: type[Struct] | None = None,
    errors: tuple[int, ...] = (),
    statuses: tuple[int, ...] = (200,),
    content_type: str = "application/json",
) -> Callable[[Callable[..., Awaitable[Any]]], View]:
    """Make a view of a function that takes `query` and `body`, as far as there are such, and what is in its path."""
    described = Operation(summary, answer, body, raw_body, query, errors, statuses, content_type)

    def decorate(handle: Callable[..., Awaitable[Any]]) -> View:
        @wraps(handle)
        async def view(**arguments: Any) -> Response:
            if query is not None:
                arguments["query"] = decode_query(query, request.args)
            if raw_body is not None:
                arguments["body"] = await read_body()
            elif body is not None:
                arguments["body"] = decode(body, await parse_body(await read_body()))
            answered = await handle(**arguments)
            return answered if isinstance(answered, Response) else json_response(answered)

        view.operation = described  # type: ignore[attr-defined]
        return view

    return decorate


def operation_of(view: Callable[..., Any]) -> Operation:
    """What `operation` said of a view."""
    described = getattr(view, "operation", None)
    assert isinstance(described, Operation), f"{view} is a route that is not described by `operation`"
    return described
