"""The messages of the worker API <-> the domain's values. Pure."""

from __future__ import annotations

import math
from typing import Any

from orchy.errors import InvalidInput
from orchy.flow.definition import JSON, ActionDefinition
from orchy.flow.validation import parse_action_definition
from orchy.orchestrator import Result
from orchy.rpc.generated import action_service_pb2 as pb
from orchy.rpc.values import fill_value, json_of_map

def encode_action(
    *,
    workflow: str,
    flow_id: str,
    action_id: int,
    name: str,
    attempt: int,
    parameters: JSON,
    timeout_seconds: float,
) -> bytes:
    """An attempt as workers get it. `parameters` is a JSON object."""
    action = pb.Action(
        workflowName=workflow,
        flowId=flow_id,
        actionId=action_id,
        actionName=name,
        retryCount=attempt,
        type=pb.Action.USER,
        timeoutSeconds=min(math.ceil(timeout_seconds), 2**31 - 1),
    )
    for key, item in parameters.items():
        fill_value(action.data[key], item)
    return action.SerializeToString()


def result_of(message: Any) -> Result:
    """What an `ActionResult` says. Raises InvalidInput."""
    if not message.flowId:
        raise InvalidInput("the result has no flowId")
    data = json_of_map(message.data)
    error = None
    if message.status == pb.ActionResult.FAIL:
        # Workers that know nothing of the field `error` say it in their data.
        told = data.get("error", data or "")
        error = message.error or (told if isinstance(told, str) else str(told)) or "the worker gave no reason"
    return Result(message.flowId, message.actionId, message.retryCount, data, error, message.workerId)


def definition_of(message: Any) -> ActionDefinition:
    """What an `ActionDefinition` says. Raises InvalidInput with all problems."""
    return parse_action_definition(
        {
            "name": message.name,
            "retry_count": message.retryCount,
            "retry_after_seconds": message.retryAfterSeconds,
            "retry_policy": message.retryPolicy or "FIXED",
            "timeout_seconds": message.timeoutSeconds,
        }
    )


