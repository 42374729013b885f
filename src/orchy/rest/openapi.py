"""`GET /openapi.json`: all routes in the form of OpenAPI 3.1, from the url map and what `operation` says of each.

HEAD and OPTIONS, which every route has, are left out. Schemas are made of the Structs, and only those that the routes
name are there.
"""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, Union, get_args, get_origin

import msgspec
from werkzeug.routing import Map, Rule

from orchy import __version__
from orchy.flow.definition import JSON
from orchy.rest.operations import Operation, operation_of
from orchy.rest.schemas import Error, camel_case

VERSION = "3.1.0"

#: What any request may be answered with: before a route is asked, or when it fails.
ALWAYS = (400, 403, 408, 421, 429, 431, 500, 501, 503)
#: Those of a request with a body.
WITH_BODY = (413, 415)
ERRORS = {
    400: "bad input, or no request of HTTP/1.1; `details` has one entry for each problem",
    403: "a browser sent it for a page of another origin",
    404: "no such workflow, version, action or flow",
    408: "the request did not arrive in time",
    409: "the flow's state does not allow it, the flowId is another flow's, or a limit is reached",
    413: "the body, or an event's data, is too large",
    415: "there is a body, and no `Content-Type: application/json`",
    421: "the node is not known by the name in `Host`",
    429: "too many requests; `Retry-After` says when to try again",
    431: "the head of the request is too large",
    500: "an error in Orchy; the node's log says more",
    501: "a transfer encoding other than chunked",
    503: "the store is not reached or refuses, or the node has too much to do; nothing was accepted, unless the"
    " sentence says that it may have been",
}

_ARGUMENT = re.compile(r"<(?:\w+:)?(\w+)>")
_REFERENCE = "#/components/schemas/{name}"


class Description:
    """That of one application; made when it is first asked for, when all routes are there."""

    def __init__(self, url_map: Map, views: Mapping[str, Callable[..., Any]]) -> None:
        self._url_map = url_map
        self._views = views

    def as_json(self) -> dict[str, JSON]:
        """The whole document."""
        return self._document

    @cached_property
    def _document(self) -> dict[str, JSON]:
        operations = [(rule, operation_of(self._views[rule.endpoint])) for rule in self._url_map.iter_rules()]
        schemas = _Schemas([described for _, described in operations])
        paths: dict[str, dict[str, JSON]] = {}
        for rule, described in sorted(operations, key=lambda one: str(one[0])):
            for method in sorted(_methods(rule)):
                paths.setdefault(_path(rule), {})[method.lower()] = _operation(rule, method, described, schemas)
        return {
            "openapi": VERSION,
            "info": {
                "title": "Orchy",
                "version": __version__,
                "description": "A distributed workflow orchestrator. Every node answers for every flow.",
            },
            "paths": paths,
            "components": {
                "schemas": schemas.components,
                "responses": {str(status): _error(status, schemas) for status in ERRORS},
            },
        }


class _Schemas:
    """The schemas of all types that some operations name."""

    def __init__(self, operations: list[Operation]) -> None:
        parts: dict[Any, None] = {Error: None}
        for one in operations:
            for type_ in (one.answer, one.body, one.raw_body, *_query_types(one).values()):
                parts.update(dict.fromkeys(_parts(type_)))
        made, components = msgspec.json.schema_components(parts, ref_template=_REFERENCE)
        self._made: dict[Any, dict[str, JSON]] = dict(zip(parts, made, strict=True))
        self.components: dict[str, JSON] = {name: components[name] for name in sorted(components)}

    def of(self, type_: Any) -> dict[str, JSON]:
        """That of a type: mostly a reference."""
        if type_ in self._made:
            return self._made[type_]
        if get_origin(type_) is list:
            return {"type": "array", "items": self.of(get_args(type_)[0])}
        return {"anyOf": [self.of(one) for one in get_args(type_)]}


def _parts(type_: Any) -> set[Any]:
    """What a union or a list is made of: msgspec decodes no union of Structs, so it has no schema for one either."""
    if get_origin(type_) is list or get_origin(type_) is types.UnionType:
        return set().union(*map(_parts, get_args(type_)))
    return set() if type_ is None else {type_}


def _query_types(described: Operation) -> dict[str, Any]:
    """The types of the parameters in a query, by name; what is left out is not null, so that is no part of them."""
    if described.query is None:
        return {}
    fields = {}
    for field in msgspec.structs.fields(described.query):
        given = [one for one in get_args(field.type) if one is not types.NoneType]
        is_union = get_origin(field.type) in (Union, types.UnionType)
        fields[field.encode_name] = given[0] if is_union else field.type
    return fields


def _methods(rule: Rule) -> set[str]:
    return (rule.methods or set()) - {"HEAD", "OPTIONS"}


def _path(rule: Rule) -> str:
    return _ARGUMENT.sub(lambda match: f"{{{camel_case(match[1])}}}", str(rule))


def _operation(rule: Rule, method: str, described: Operation, schemas: _Schemas) -> dict[str, JSON]:
    blueprint, _, name = rule.endpoint.partition(".")
    body = described.body or described.raw_body
    statuses = sorted({*ALWAYS, *(WITH_BODY if body is not None else ()), *described.errors} - {*described.statuses})
    answer = {"description": "done", "content": {described.content_type: {"schema": schemas.of(described.answer)}}}
    made: dict[str, JSON] = {
        "operationId": f"{blueprint}_{name}",
        "tags": [blueprint],
        "summary": described.summary,
        "parameters": [*_path_parameters(rule), *_query_parameters(described, schemas)],
        "responses": {
            **{str(status): answer for status in described.statuses},
            **{str(status): {"$ref": f"#/components/responses/{status}"} for status in statuses},
        },
    }
    if body is not None:
        made["requestBody"] = {"required": True, "content": {"application/json": {"schema": schemas.of(body)}}}
    return made


def _path_parameters(rule: Rule) -> list[JSON]:
    return [
        {"name": camel_case(name), "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _ARGUMENT.findall(str(rule))
    ]


def _query_parameters(described: Operation, schemas: _Schemas) -> list[JSON]:
    if described.query is None:
        return []
    defaults = {field.encode_name: field.default for field in msgspec.structs.fields(described.query)}
    parameters = []
    for name, type_ in _query_types(described).items():
        schema = schemas.of(type_) | ({} if defaults[name] is None else {"default": defaults[name]})
        parameters.append({"name": name, "in": "query", "required": False, "schema": schema})
    return parameters


def _error(status: int, schemas: _Schemas) -> dict[str, JSON]:
    made: dict[str, JSON] = {
        "description": ERRORS[status],
        "content": {"application/json": {"schema": schemas.of(Error)}},
    }
    if status in (429, 503):
        made["headers"] = {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}}
    return made
