"""Messages of the worker API to values of the domain, and back. Pure."""

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
    """An attempt as workers get it. `parameters` is a JSON object. Raises InvalidInput for what can't be encoded."""
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
    """An `Actions` message, or a `ServerMessage`, made of encoded `Action`s and its encoded other fields, `rest`.

    Why bytes can be joined: a repeated field is one item after the other, and fields may stand in any order.
    """

    bodies: Sequence[bytes]
    rest: bytes = b""

    def SerializeToString(self) -> bytes:
        """The message; the actions are copied, not parsed."""
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
    """Why an attempt failed. Older workers do not know the field `error` and say it in their data, if at all."""
    error: str = message.error
    if not error and message.data:
        try:
            data = json_of_map(message.data)
        except InvalidInput as invalid:  # it failed all the same
            data = {"error": f"the worker's reason can't be shown: {invalid}"}
        reason = data.get("error")
        error = reason if isinstance(reason, str) else json.dumps(data, ensure_ascii=False, sort_keys=True)
    return error[:ERROR_CHARACTERS_MAX] or "the worker gave no reason"


def definition_of(message: Any) -> ActionDefinition:
    """What an `ActionDefinition` says. Raises InvalidInput with all problems."""
    said = {name: getattr(message, protocol_name) for name, protocol_name in PROTOCOL_NAMES.items()}
    return parse_action_definition({**said, "retry_policy": message.retryPolicy or None})
