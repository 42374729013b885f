"""The standard work: its workflow definitions, and how flows are started and awaited."""

from __future__ import annotations

import json
import time
from datetime import datetime
from importlib.resources import files
from typing import Any

from bench.harness.processes import Server

#: The user action of all work but *notify*; it does nothing.
STEP = "step"
BATCH_FLOWS = 1_000


def chain(name: str, length: int) -> dict[str, Any]:
    """User actions in a row."""
    actions = [
        {"id": n, "type": "user", "name": STEP, "next": {"default": [n + 1]} if n < length else {}}
        for n in range(1, length + 1)
    ]
    return {"name": name, "rootAction": 1, "actions": actions}


def fan(name: str, width: int) -> dict[str, Any]:
    """One user action, `width` of them in parallel, and one that joins them."""
    branches = list(range(2, width + 2))
    join = width + 2
    actions: list[dict[str, Any]] = [{"id": 1, "type": "user", "name": STEP, "next": {"default": branches}}]
    actions += [{"id": n, "type": "user", "name": STEP, "next": {"default": [join]}} for n in branches]
    actions.append({"id": join, "type": "user", "name": STEP})
    return {"name": name, "rootAction": 1, "actions": actions}


def notification(seconds: float) -> dict[str, Any]:
    """The notification workflow of the demo; its delay, and its wait for an event, take at most `seconds`."""
    definition: dict[str, Any] = json.loads(
        files("orchy.commands.demo").joinpath("notification_workflow.json").read_text()
    )
    for action in definition["actions"]:
        for name in ("delaySeconds", "timeoutSeconds"):
            if action["type"] == "system" and name in action:
                action[name] = seconds
    return definition


def run_to_end(server: Server, name: str, input: Any = None) -> tuple[float, float]:
    """Start a flow and wait for its end: ms until it was COMPLETED, and until a client that polls each 5 ms knew.

    The first is by the store's clock, which is this machine's; a millisecond is added because it rounds down. A client
    that polls without a pause would compete with the server for the CPU.
    """
    began = time.time() * 1_000
    flow_id = server.call("POST", "/flow/execute", {"name": name, "input": input or {}})["flowId"]
    while (flow := server.call("GET", f"/flow/{flow_id}"))["endedAt"] is None:
        time.sleep(0.005)
    if flow["state"] != "COMPLETED":
        raise SystemExit(f"flow {flow_id} of {name} is {flow['state']}")
    seen = time.time() * 1_000
    return datetime.fromisoformat(flow["endedAt"]).timestamp() * 1_000 + 1 - began, seen - began


def start_many(server: Server, name: str, count: int) -> None:
    """Start flows the fastest way: in batches. Raises SystemExit if one is refused."""
    for first in range(0, count, BATCH_FLOWS):
        size = min(BATCH_FLOWS, count - first)
        answers = server.call("POST", "/flow/execute", [{"name": name, "input": {}}] * size)
        refused = [answer for answer in answers if "flowId" not in answer]
        if refused:
            raise SystemExit(f"{len(refused)} flows of {name} were refused: {refused[0]}")


def ended(server: Server) -> float:
    """How many flows a node has COMPLETED. Each call costs the node a millisecond."""
    return server.metric('orchy_flows_ended_total{state="COMPLETED"}')


def run_long(server: Server, name: str) -> tuple[str, float]:
    """As `run_to_end`, for a long flow: its id, and the seconds until its last action was completed."""
    before, began = ended(server), time.time()
    flow_id = server.call("POST", "/flow/execute", {"name": name, "input": {}})["flowId"]
    while ended(server) == before:
        time.sleep(0.05)
    return flow_id, times_ms(server, flow_id, "completed")[-1] / 1e3 + 0.001 - began


def times_ms(server: Server, flow_id: str, kind: str) -> list[float]:
    """When history records of one type were written, in ms by the store's clock."""
    lines = server.call("GET", f"/flow/{flow_id}/history")["history"]
    return [datetime.fromisoformat(line["time"]).timestamp() * 1000 for line in lines if line["type"] == kind]
