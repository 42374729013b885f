"""The committed code is what the proto files give."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GENERATED = ROOT / "src" / "orchy" / "rpc" / "generated"


def test_the_committed_code_is_what_the_proto_files_give(tmp_path):
    pytest.importorskip("grpc_tools", reason="grpcio-tools (dependency group proto) is not installed")
    spec = importlib.util.spec_from_file_location("generate", ROOT / "proto" / "generate.py")
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    generate.generate(tmp_path)
    made = {path.name: path.read_text() for path in tmp_path.iterdir()}
    kept = {path.name: path.read_text() for path in GENERATED.iterdir() if path.is_file()}
    assert made.keys() == kept.keys()
    stale = [name for name in made if made[name] != kept[name]]
    assert not stale, "stale: run `nox -s proto` and commit what it writes"


def test_names_and_numbers_are_those_that_existing_workers_speak():
    from orchy.rpc.generated import action_service_pb2 as pb

    assert pb.DESCRIPTOR.package == ""
    fields = {name: {f.name: f.number for f in m.fields} for name, m in pb.DESCRIPTOR.message_types_by_name.items()}
    assert fields == {
        "Action": {
            "workflowName": 1,
            "flowId": 2,
            "data": 3,
            "actionId": 4,
            "actionName": 5,
            "retryCount": 6,
            "type": 7,
            "timeoutSeconds": 8,
        },
        "Actions": {"actions": 1},
        "ActionResult": {
            "workflowName": 1,
            "actionName": 2,
            "flowId": 3,
            "actionId": 4,
            "data": 5,
            "status": 6,
            "retryCount": 7,
            "error": 8,
            "workerId": 9,
        },
        "ActionDefinition": {
            "name": 1,
            "retryCount": 2,
            "retryAfterSeconds": 3,
            "retryPolicy": 4,
            "timeoutSeconds": 5,
        },
        "ActionDefinitionSaveResponse": {"status": 1},
        "ActionPollRequest": {"actionType": 1, "batchSize": 2, "waitMillis": 3, "workerId": 4, "leaseMillis": 5},
        "ActionResultPushResponse": {"status": 1},
        "ActionResults": {"results": 1},
        "ActionResultsPushResponse": {"outcomes": 1},
        "PushOutcome": {"status": 1, "code": 2, "message": 3},
        "RenewRequest": {"workerId": 1, "attempts": 2, "leaseMillis": 3},
        "RenewResponse": {"renewed": 1},
        "WorkerMessage": {
            "workerId": 1,
            "credits": 2,
            "results": 3,
            "extend": 4,
            "number": 5,
            "goodbye": 6,
            "renews": 7,
            "holding": 8,
            "missing": 9,
            "upMillis": 10,
        },
        "Credit": {"actionName": 1, "count": 2},
        "Attempt": {"flowId": 1, "actionId": 2, "retryCount": 3},
        "ServerMessage": {"actions": 1, "taken": 2, "extended": 3, "goodbye": 4, "leaseMillis": 5, "asks": 6},
        "Taken": {"number": 1, "outcomes": 2},
        "Extended": {"number": 1, "extended": 2},
        "Server": {"id": 1, "rpc_addr": 2},
        "GetServersRequest": {},
        "GetServersResponse": {"servers": 1},
    }
    calls = pb.DESCRIPTOR.services_by_name["ActionService"].methods
    assert [(c.name, c.input_type.name, c.output_type.name) for c in calls] == [
        ("SaveActionDefinition", "ActionDefinition", "ActionDefinitionSaveResponse"),
        ("Poll", "ActionPollRequest", "Actions"),
        ("Push", "ActionResult", "ActionResultPushResponse"),
        ("PushAll", "ActionResults", "ActionResultsPushResponse"),
        ("Work", "WorkerMessage", "ServerMessage"),
        ("Renew", "RenewRequest", "RenewResponse"),
        ("GetServers", "GetServersRequest", "GetServersResponse"),
    ]
