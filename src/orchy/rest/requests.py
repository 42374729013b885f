"""What a request says: its body as JSON, its fields with their types, its query. All problems at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import trio
from quart import Quart, current_app, request
from werkzeug.exceptions import RequestEntityTooLarge

from orchy.errors import InvalidInput, Problem, TooLarge
from orchy.flow.definition import JSON
from orchy.flow.json.scan import Where
from orchy.flow.json.text import parse_json, pointer

#: The most problems that are told of one object.
PROBLEMS_MAX = 100
#: A larger body is parsed in a thread.
PARSED_AT_ONCE_BYTES_MAX = 128 * 1024

#: One after the other: side by side they would take no less time, and more memory.
_PARSERS = trio.CapacityLimiter(1)

_NAMES = {str: "a string", int: "an integer"}


def limit_bytes(app: Quart) -> int:
    """The largest body."""
    limit: int = app.config["MAX_CONTENT_LENGTH"]
    return limit


async def read_body() -> bytes:
    """The body. Raises TooLarge before all of it is read."""
    try:
        body = await request.get_data(cache=False)
    except RequestEntityTooLarge:
        raise TooLarge(f"the body is larger than {limit_bytes(current_app)} bytes") from None
    assert isinstance(body, bytes)
    return body


async def read_json() -> JSON:
    """The body as JSON. Raises InvalidInput, TooLarge."""
    return await parse_body(await read_body())


async def parse_body(body: bytes) -> JSON:
    """A body as JSON; a large one is read in a thread, so that others have their turn. Raises InvalidInput."""
    if len(body) <= PARSED_AT_ONCE_BYTES_MAX:
        return parse_json(body)
    return await trio.to_thread.run_sync(parse_json, body, limiter=_PARSERS)


async def read_fields(required: Mapping[str, type | None], optional: Mapping[str, type | None]) -> dict[str, Any]:
    """The fields of a body that is a JSON object; a type of None takes any JSON. Raises InvalidInput, TooLarge."""
    return fields_of(await read_json(), required, optional)


def fields_of(
    value: JSON, required: Mapping[str, type | None], optional: Mapping[str, type | None], where: Where = ()
) -> dict[str, Any]:
    """The fields of a JSON object that stands at `where` in the body. Raises InvalidInput with all problems."""
    if not isinstance(value, dict):
        raise InvalidInput("the body must be a JSON object")
    known = {**required, **optional}
    problems = [Problem(f"the field {name!r} is missing", pointer(where)) for name in required if name not in value]
    for name, item in value.items():
        if len(problems) >= PROBLEMS_MAX:
            break
        if name not in known:
            message = f"unknown field {name!r}; known here: {', '.join(sorted(known))}"
            problems.append(Problem(message, pointer((*where, name))))
        elif not _fits(item, known[name], name in required):
            problems.append(Problem(f"{name!r} must be {_NAMES[known[name] or str]}", pointer((*where, name))))
    if problems:
        raise InvalidInput("the request is not valid", problems)
    return value


def _fits(item: JSON, kind: type | None, required: bool) -> bool:
    if kind is None:
        return True
    if item is None:
        return not required
    if kind is str and required and not item:
        return False
    return isinstance(item, kind) and not isinstance(item, bool)


def query_int(name: str, default: int | None, least: int, most: int) -> int | None:
    """A number in the query. Raises InvalidInput."""
    text = request.args.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or not least <= int(text[:20]) <= most:
        raise InvalidInput(f"{name} must be a number from {least} to {most}")
    return int(text)


def check_query(*known: str) -> None:
    """Raises InvalidInput for a parameter that the route does not have."""
    unknown = sorted(set(request.args) - set(known))
    if unknown:
        named = ", ".join(known) or "none"
        raise InvalidInput(f"unknown query parameter {', '.join(unknown)}; known here: {named}")
