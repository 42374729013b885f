"""What becomes of a worker's results: our verdicts and errors as the statuses and messages of the worker API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orchy.engine.orchestrator import Orchestrator, Result
from orchy.errors import InvalidInput, NotFound, OrchyError, WrongState
from orchy.rpc.api.convert import result_of
from orchy.rpc.generated import action_service_pb2 as pb
from orchy.rpc.grpc.framing import Code, Status


def status_of(error: OrchyError) -> Status:
    """The status of one of our errors: the one place where they are translated."""
    match error:
        case InvalidInput():
            details = "; ".join(map(str, error.problems))
            return Status(Code.INVALID_ARGUMENT, f"{error}: {details}" if details else str(error))
        case NotFound():
            return Status(Code.NOT_FOUND, str(error))
        case WrongState():
            return Status(Code.FAILED_PRECONDITION, str(error))
        case _:
            return Status(Code.UNAVAILABLE, str(error))


async def push_all(orchestrator: Orchestrator, messages: Sequence[Any]) -> list[Any]:
    """Push results side by side, so that their commits leave together; the outcome of each, in their order."""
    outcomes: list[Any] = [None] * len(messages)
    results: dict[int, Result] = {}
    for index, message in enumerate(messages):
        try:
            results[index] = result_of(message)
        except InvalidInput as error:
            outcomes[index] = outcome_of(error)
    for index, verdict in zip(results, await orchestrator.push_all(list(results.values())), strict=True):
        outcomes[index] = outcome_of(verdict)
    return outcomes


def outcome_of(verdict: str | OrchyError | None) -> Any:
    """What Push would have answered, or raised, as a message."""
    if isinstance(verdict, OrchyError):
        status = status_of(verdict)
        return pb.PushOutcome(code=int(status.code), message=status.message)
    return _TAKEN if verdict is not None else _NO_FLOW


_TAKEN = pb.PushOutcome(status=True)
_NO_FLOW = pb.PushOutcome(status=False)
