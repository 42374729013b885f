"""The messages of the worker API <-> the domain's values. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import attrs

from orchy.engine.orchestrator import Result
from orchy.errors import InvalidInput
from orchy.flow.definition import JSON, PROTOCOL_NAMES, ActionDefinition
from orchy.flow.runs import RunId
from orchy.flow.validation.definitions import parse_action_definition
from orchy.rpc.generated import action_service_pb2 as pb
from orchy.rpc.grpc.values import fill_map, json_of_map

INT32_MAX = 2**31 - 1
ERROR_CHARACTERS_MAX = 10_000
WORKER_CHARACTERS_MAX = 256


def encode_action(
    *,
    workflow: str,
    flow_id: str,
    action_id: RunId,
    name: str,
    attempt: int,
    parameters: JSON,
    timeout_seconds: float,
) -> bytes:
    """An attempt as workers get it. `parameters` is a JSON object. Raises InvalidInput for what no worker can get."""
    action = pb.Action(
        workflowName=workflow,
        flowId=flow_id,
        actionId=action_id,
        actionName=name,
        retryCount=attempt,
        type=pb.Action.USER,
        timeoutSeconds=min(math.ceil(timeout_seconds), INT32_MAX),
    )
    fill_map(action.data, parameters)
    return action.SerializeToString()


@attrs.frozen
class EncodedActions:
    """An `Actions` message, or a `ServerMessage`, made of encoded `Action`s.

    A field of messages is nothing but one after the other, and a message is its fields in any order (`rest`).
    """

    bodies: Sequence[bytes]
    rest: bytes = b""

    def SerializeToString(self) -> bytes:
        """The message, without a look into the actions."""
        parts: list[bytes] = []
        for body in self.bodies:
            parts += (_ACTIONS_TAG, _varint(len(body)), body)
        parts.append(self.rest)
        return b"".join(parts)


#: Field number 1, length-delimited (Protocol Buffers Encoding, "Message Structure").
_ACTIONS_TAG = b"\x0a"


def _varint(number: int) -> bytes:
    """A number in base 128, the lowest digits first."""
    digits = bytearray()
    while number > 0x7F:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    digits.append(number)
    return bytes(digits)


def result_of(message: Any) -> Result:
    """What an `ActionResult` says. Raises InvalidInput."""
    if not message.flowId:
        raise InvalidInput("the result has no flowId")
    worker = message.workerId[:WORKER_CHARACTERS_MAX]
    if message.status == pb.ActionResult.FAIL:
        return Result(message.flowId, message.actionId, message.retryCount, None, _error_of(message), worker)
    output = json_of_map(message.data)
    return Result(message.flowId, message.actionId, message.retryCount, output, None, worker)


def _error_of(message: Any) -> str:
    """Why an attempt failed. Workers that know nothing of the field `error` say it in their data, if at all."""
    error: str = message.error
    if not error and message.data:
        try:
            told = json_of_map(message.data)
        except InvalidInput as invalid:  # it failed all the same
            told = {"error": f"the worker's reason can't be shown: {invalid}"}
        reason = told.get("error")
        error = reason if isinstance(reason, str) else json.dumps(told, ensure_ascii=False, sort_keys=True)
    return error[:ERROR_CHARACTERS_MAX] or "the worker gave no reason"


def definition_of(message: Any) -> ActionDefinition:
    """What an `ActionDefinition` says. Raises InvalidInput with all problems."""
    said = {name: getattr(message, protocol_name) for name, protocol_name in PROTOCOL_NAMES.items()}
    return parse_action_definition({**said, "retry_policy": message.retryPolicy or None})
