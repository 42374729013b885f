"""Requests as the Structs that their routes take: decoded fast when they are sound, explained exactly when they are
not. All problems of a body are reported together, up to PROBLEMS_MAX."""

from __future__ import annotations

import enum
import types
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

import attrs
import msgspec
import trio
from msgspec import NODEFAULT, Struct
from quart import Quart, current_app, request
from werkzeug.exceptions import RequestEntityTooLarge

from orchy.errors import InvalidInput, Problem, TooLarge
from orchy.flow.definition import JSON
from orchy.flow.json.scan import Where
from orchy.flow.json.text import parse_json, pointer

#: The most problems that are reported of one object.
PROBLEMS_MAX = 100
#: A larger body is parsed in a thread.
PARSED_AT_ONCE_BYTES_MAX = 128 * 1024

#: One at a time: in parallel they would take no less time, and more memory.
_PARSERS = trio.CapacityLimiter(1)

_NAMES = {str: "a string", int: "an integer"}

_T = TypeVar("_T", bound=Struct)


def limit_bytes(app: Quart) -> int:
    """The largest body."""
    limit: int = app.config["MAX_CONTENT_LENGTH"]
    return limit


async def read_body() -> bytes:
    """The body. Raises TooLarge."""
    try:
        body = await request.get_data(cache=False)
    except RequestEntityTooLarge:
        raise TooLarge(f"the body is larger than {limit_bytes(current_app)} bytes") from None
    assert isinstance(body, bytes)
    return body


async def parse_body(body: bytes) -> JSON:
    """A body as JSON; a large one is parsed in a thread, so that other tasks have their turn. Raises InvalidInput."""
    if len(body) <= PARSED_AT_ONCE_BYTES_MAX:
        return parse_json(body)
    return await trio.to_thread.run_sync(parse_json, body, limiter=_PARSERS)


def decode(kind: type[_T], value: JSON, where: Where = ()) -> _T:
    """The request that a JSON value makes; it stands at `where` in the body. Raises InvalidInput with all problems."""
    if not isinstance(value, dict):
        raise InvalidInput("the body must be a JSON object")
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        problems = _problems(kind, value, where)
        assert problems, f"no problem explains: {error}"
        raise InvalidInput("the request is not valid", problems) from None


def decode_query(kind: type[_T], texts: Mapping[str, str]) -> _T:
    """The parameters of a query. Raises InvalidInput for the first that is wrong."""
    fields = _fields(kind)
    unknown = sorted(set(texts) - set(fields))
    if unknown:
        known = ", ".join(fields) or "none"
        raise InvalidInput(f"unknown query parameter {', '.join(unknown)}; known here: {known}")
    return kind(**{fields[name].attribute: _parameter(fields[name], name, text) for name, text in texts.items()})


@attrs.frozen
class _Field:
    """A field of a request. `type` is what stands in JSON, without None; `least` and `most` are those of a number."""

    attribute: str
    annotation: Any
    required: bool
    type: Any
    least: float | None
    most: float | None


@cache
def _fields(kind: type[Struct]) -> dict[str, _Field]:
    """The fields of a request, by their names on the wire, in their order."""
    hints = get_type_hints(kind, include_extras=True)
    fields = {}
    for info in msgspec.structs.fields(kind):
        annotation = hints[info.name]
        type_, meta = _plain(annotation)
        fields[info.encode_name] = _Field(
            info.name,
            annotation,
            info.default is NODEFAULT and info.default_factory is NODEFAULT,
            type_,
            meta.ge if meta else None,
            meta.le if meta else None,
        )
    return fields


def _plain(annotation: Any, meta: msgspec.Meta | None = None) -> tuple[Any, msgspec.Meta | None]:
    """`int` and its Meta for `Annotated[int, Meta(...)] | None`."""
    if get_origin(annotation) is Annotated:
        return _plain(get_args(annotation)[0], annotation.__metadata__[0])
    if get_origin(annotation) in (Union, types.UnionType):
        (annotation,) = [one for one in get_args(annotation) if one is not types.NoneType]
        return _plain(annotation, meta)
    return annotation, meta


def _problems(kind: type[Struct], value: dict[str, JSON], where: Where) -> list[Problem]:
    fields = _fields(kind)
    problems = [
        Problem(f"the field {name!r} is missing", pointer(where))
        for name, field in fields.items()
        if field.required and name not in value
    ]
    for name, item in value.items():
        if len(problems) >= PROBLEMS_MAX:
            break
        if name not in fields:
            message = f"unknown field {name!r}; known here: {', '.join(sorted(fields))}"
            problems.append(Problem(message, pointer((*where, name))))
        elif not _fits(item, fields[name]):
            problems.append(Problem(f"{name!r} must be {_NAMES[fields[name].type]}", pointer((*where, name))))
    return problems


def _fits(item: JSON, field: _Field) -> bool:
    try:
        msgspec.convert(item, field.annotation)
    except msgspec.ValidationError:
        return False
    return True


def _parameter(field: _Field, name: str, text: str) -> Any:
    if field.type is int:
        return _number(field, name, text)
    if field.type is bool:
        if text.lower() not in ("true", "false"):
            raise InvalidInput(f"{name} must be true or false")
        return text.lower() == "true"
    if isinstance(field.type, enum.EnumMeta):
        try:
            return field.type(text.upper())
        except ValueError:
            raise InvalidInput(f"{name} must be one of {', '.join(map(str, field.type))}") from None
    assert field.type is str
    return text


def _number(field: _Field, name: str, text: str) -> int:
    assert field.least is not None
    assert field.most is not None
    if not text.isascii() or not text.isdigit() or not field.least <= int(text[:20]) <= field.most:
        raise InvalidInput(f"{name} must be a number from {field.least} to {field.most}")
    return int(text)
