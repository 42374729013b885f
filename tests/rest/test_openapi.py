"""`GET /openapi.json` is sound, has every route, and says the truth about what they answer."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import msgspec
import openapi_spec_validator
import pytest
import trio

from orchy.actions import SYSTEM_ACTIONS
from orchy.errors import StoreUnavailable
from orchy.flow.validation.definitions import parse_workflow
from orchy.rest.app import create_app
from orchy.rest.schemas import ActionNode, WorkflowDefinition
from orchy.rest.services import Services
from orchy.store.memory.store import MemoryStore
from tests.engine.parts import make_engine
from tests.rest.asking import Counted, ask, routes_of, unasked_app

WORKFLOW = {
    "name": "w",
    "rootAction": 1,
    "actions": [
        {"id": 1, "type": "user", "name": "a", "parameters": {"x": "{$.input.x}"}, "next": {"default": [2]}},
        {"id": 2, "type": "system", "name": "wait", "event": "go", "timeoutSeconds": 9, "next": {"go": []}},
    ],
}
ACTION = {"name": "a", "retry_count": 2, "retry_after_seconds": 0.5, "retry_policy": "BACKOFF", "timeout_seconds": 9}
FLOW = {"name": "w", "flowId": "f"}
START = {**FLOW, "input": {"x": 1}}
# In this order, on one engine: method, path, query, body, status.
CALLS = [
    ("POST", "/workflow", "", WORKFLOW, 200),
    ("POST", "/workflow", "", {"name": "", "actions": 1}, 400),
    ("POST", "/workflow/validate", "", WORKFLOW, 200),
    ("POST", "/workflow/validate", "", {**WORKFLOW, "rootAction": 9, "onSucess": "NOOP"}, 200),
    ("POST", "/workflow/validate", "", b'{"name":\n', 200),
    ("GET", "/workflow", "", None, 200),
    ("GET", "/workflow", "x=1", None, 400),
    ("GET", "/workflow/w", "version=1", None, 200),
    ("GET", "/workflow/w", "version=2", None, 404),
    ("POST", "/action", "", ACTION, 200),
    ("POST", "/action", "", {"name": 1, "x": 2}, 400),
    ("GET", "/action", "", None, 200),
    ("GET", "/action/a", "", None, 200),
    ("GET", "/action/b", "", None, 404),
    ("POST", "/flow/execute", "", START, 200),
    ("POST", "/flow/execute", "", {**FLOW, "input": 2}, 409),
    ("POST", "/flow/execute", "", {"name": "nope"}, 404),
    ("POST", "/flow/execute", "", {"name": 1, "x": 1}, 400),
    ("POST", "/flow/execute", "", [START, {"name": "nope"}, {"name": ""}, {"name": "w"}], 200),
    ("POST", "/flow/execute", "", [], 400),
    ("GET", "/flow/f", "", None, 200),
    ("GET", "/flow/g", "", None, 404),
    ("GET", "/flow/f/history", "", None, 200),
    ("GET", "/flow/g/history", "", None, 404),
    ("GET", "/flow", "limit=1", None, 200),
    ("GET", "/flow", "state=RUNNING&name=w&quarantined=false", None, 200),
    ("GET", "/flow", "limit=0", None, 400),
    ("POST", "/flow/event", "", {**FLOW, "event": "slip"}, 200),
    ("POST", "/flow/event", "", {**FLOW, "event": "go", "id": "1"}, 200),
    ("POST", "/flow/event", "", {**FLOW, "event": "go", "id": "1"}, 200),
    ("POST", "/flow/event", "", {**FLOW, "flowId": "g", "event": "go"}, 404),
    ("POST", "/flow/pause", "", FLOW, 200),
    ("POST", "/flow/pause", "", {}, 400),
    ("POST", "/flow/resume", "", FLOW, 200),
    ("POST", "/flow/release", "", {"flowId": "f", "reason": "x"}, 409),
    ("POST", "/flow/cancel", "", FLOW, 200),
    ("POST", "/flow/resume", "", FLOW, 409),
    ("GET", "/flow/f", "", None, 200),
    ("GET", "/flow/f/history", "", None, 200),
    ("DELETE", "/workflow/w", "", None, 200),
    ("DELETE", "/workflow/w", "", None, 404),
    ("DELETE", "/action/a", "", None, 200),
    ("DELETE", "/action/a", "", None, 404),
    ("GET", "/", "", None, 200),
    ("GET", "/openapi.json", "", None, 200),
    ("GET", "/cluster", "", None, 200),
    ("GET", "/health/live", "", None, 200),
    ("GET", "/health/ready", "", None, 200),
    ("GET", "/metrics", "", None, 200),
]


class Cluster:
    """One that has a member and partitions, and may be down."""

    ready = True
    error = None

    async def describe(self):
        await trio.lowlevel.checkpoint()
        if self.error is not None:
            raise self.error
        return {
            "node": "n",
            "members": [
                {
                    "name": "n",
                    "state": "alive",
                    "incarnation": 1,
                    "gossip": "h:1",
                    "http": "h:2",
                    "grpc": "h:3",
                    "ready": True,
                    "registered": True,
                    "roundTripMs": None,
                }
            ],
            "partitions": [{"id": 0, "owner": "n", "epoch": 1}, {"id": 1, "owner": None, "epoch": 0}],
        }


@pytest.fixture
def app(autojump_clock):
    engine = make_engine(MemoryStore(trio.current_time))
    return create_app(
        Services(engine.starts, engine.orchestrator, engine.queries, engine.catalog, Cluster(), Counted())
    )


async def described(app):
    status, _, text = await ask(app, "GET", "/openapi.json")
    assert status == 200
    return json.loads(text)


def operation_at(document, method, path):
    """(template, operation) that stands for a path."""
    for template, methods in sorted(document["paths"].items(), key=lambda item: item[0].count("{")):
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path) and method.lower() in methods:
            return template, methods[method.lower()]
    raise AssertionError(f"{method} {path} is not described")


def schema_of(document, operation, status):
    """(type, schema) of an answer."""
    answer = operation["responses"][str(status)]
    if "$ref" in answer:
        answer = document["components"]["responses"][answer["$ref"].rpartition("/")[2]]
    ((content_type, content),) = answer["content"].items()
    return content_type, {**content["schema"], "components": document["components"]}


async def test_it_is_sound(app):
    document = await described(app)
    openapi_spec_validator.validate(document)
    identities = [operation["operationId"] for methods in document["paths"].values() for operation in methods.values()]
    assert len(identities) == len(set(identities))


async def test_it_has_each_route_and_no_other(app):
    document = await described(app)
    there = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    routes = {
        (method, re.sub(r"<(?:path:)?(\w+)>", r"{\1}", str(rule)).replace("flow_id", "flowId"))
        for method, _, rule in routes_of(unasked_app())
        if method not in ("HEAD", "OPTIONS")
    }
    assert there == routes
    assert len(routes) > 20


async def test_what_is_answered_is_what_it_says(app):
    document = await described(app)
    unseen = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    for method, path, query, body, status in CALLS:
        got, headers, text = await ask(app, method, path, body, query)
        assert got == status, (method, path, body, text)
        template, operation = operation_at(document, method, path)
        content_type, schema = schema_of(document, operation, status)
        assert headers[b"content-type"].decode() == content_type
        if content_type == "application/json":
            answer = json.loads(text)
            jsonschema.validate(answer, schema, cls=jsonschema.Draft202012Validator)
            assert_all_fields_are_described(answer, schema, document)
        if status == 200:
            unseen.discard((method, template))
    assert unseen == {("POST", "/flow/release")}  # nothing is in quarantine here


def assert_all_fields_are_described(answer, schema, document):
    """No field of an object that a Struct describes is missing from its schema."""
    strict = json.loads(json.dumps(schema).replace("#/components/schemas/", "#/strict/"))
    strict["strict"] = {
        name: {**one, "unevaluatedProperties": False}
        if one.get("type") == "object" and name not in ("Workflow", "WorkflowDefinition", "ActionNode")
        else one
        for name, one in json.loads(
            json.dumps(document["components"]["schemas"]).replace("#/components/schemas/", "#/strict/")
        ).items()
    }
    jsonschema.validate(answer, strict, cls=jsonschema.Draft202012Validator)


async def test_a_store_that_is_down_and_a_node_that_is_not_ready_are_described(app, monkeypatch):
    document = await described(app)
    monkeypatch.setattr(Cluster, "ready", False)
    monkeypatch.setattr(Cluster, "error", StoreUnavailable("down"))
    for path in ("/health/ready", "/cluster"):
        status, _, text = await ask(app, "GET", path)
        assert status == 503
        _, schema = schema_of(document, operation_at(document, "GET", path)[1], 503)
        jsonschema.validate(json.loads(text), schema, cls=jsonschema.Draft202012Validator)


async def test_bodies_that_are_taken_are_described(app):
    document = await described(app)
    for method, path, _, body, status in CALLS:
        if status != 200 or not isinstance(body, dict | list) or path == "/workflow/validate":
            continue
        content = operation_at(document, method, path)[1]["requestBody"]["content"]["application/json"]
        schema = {**content["schema"], "components": document["components"]}
        is_batch = isinstance(body, list)  # whose starts are refused one by one
        assert jsonschema.Draft202012Validator(schema).is_valid(body) != is_batch


async def test_parameters_are_described(app):
    operation = (await described(app))["paths"]["/flow"]["get"]
    limit = next(one for one in operation["parameters"] if one["name"] == "limit")
    assert limit["schema"] == {"type": "integer", "minimum": 1, "maximum": 500, "default": 50}
    history = (await described(app))["paths"]["/flow/{flowId}/history"]["get"]
    assert [(one["name"], one["in"]) for one in history["parameters"]] == [("flowId", "path")]


def warnings_of(workflow):
    validated = parse_workflow(workflow, SYSTEM_ACTIONS)
    return [problem.message for problem in validated.warnings]


def test_the_fields_of_a_workflow_are_those_that_validation_knows():
    """They are described by Structs, and read by `flow.validation`."""
    values = {"onSuccess": "noop", "onFailure": "delete", "join": "any"}
    named = {field.encode_name for field in msgspec.structs.fields(WorkflowDefinition)}
    assert named == {*WORKFLOW, "onSuccess", "onFailure"}
    nodes = {field.encode_name for field in msgspec.structs.fields(ActionNode)}
    action = {**WORKFLOW["actions"][0], "join": "any"}
    assert nodes == set(action)
    whole = {**WORKFLOW, **{name: values[name] for name in named & set(values)}, "actions": [{**action, "next": {}}]}
    assert warnings_of(whole) == []
    assert len(warnings_of({**whole, "other": 1, "actions": [{**action, "next": {}, "other": 1}]})) == 2


def test_rest_md_names_each_route():
    page = (Path(__file__).parents[2] / "docs" / "rest.md").read_text()
    for method, _, rule in routes_of(unasked_app()):
        if method in ("HEAD", "OPTIONS"):
            continue
        path = re.sub(r"<(?:path:)?(\w+)>", r"{\1}", str(rule)).replace("flow_id", "flowId")
        assert re.search(rf"`{method} {re.escape(path)}[`?]", page) or f"`{path}`" in page, f"{method} {path}"
