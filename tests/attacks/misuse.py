"""Careless and malicious use of what every client may do: results, events, definitions, scripts."""

from __future__ import annotations

import http.client
import json
import random
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import trio

from orchy.rpc.generated import action_service_pb2 as pb
from orchy.rpc.grpc.channel import Channel, open_channel
from tests.attacks.harness import Target, attack
from tests.conftest import OrchyServer

SECONDS_MAX = 60.0


def ask(node: OrchyServer, path: str, body: Any = None) -> tuple[int, Any]:
    """The status and JSON of an answer; with a body, to a POST."""
    connection = http.client.HTTPConnection("127.0.0.1", node.http_port, timeout=SECONDS_MAX)
    try:
        headers = {"Content-Type": "application/json"}
        if body is None:
            connection.request("GET", path)
        else:
            connection.request("POST", path, json.dumps(body), headers)
        response = connection.getresponse()
        return response.status, json.load(response)
    finally:
        connection.close()


def save(node: OrchyServer, name: str, *actions: dict[str, Any]) -> None:
    """A workflow of these actions, starting with the first."""
    status, answer = ask(node, "/workflow", {"name": name, "rootAction": actions[0]["id"], "actions": list(actions)})
    assert status == 200, answer


def start(node: OrchyServer, name: str, flow_id: str) -> None:
    """A flow."""
    status, answer = ask(node, "/flow/execute", {"name": name, "flowId": flow_id})
    assert (status, answer["created"]) == (200, True), answer


def user(id: int, name: str, *following: int) -> dict[str, Any]:
    """A user action."""
    return {"id": id, "type": "user", "name": name, "next": {"default": list(following)} if following else {}}


def wait(id: int, *following: int) -> dict[str, Any]:
    """A wait for `go`."""
    return {"id": id, "type": "system", "name": "wait", "event": "go", "next": {"go": list(following)}}


@attack("a worker pushes 10,000 old and invented results of 5 kB each")
def repeated_old_results(target: Target) -> str:
    """The history keeps one late result for each attempt and ten for each action, each of them truncated."""
    node = target.node
    save(node, "w", user(1, "a", 2), user(2, "b"))
    start(node, "w", "f")

    async def push() -> int:
        taken = 0
        with trio.fail_after(SECONDS_MAX):
            async with open_channel(node.grpc) as channel:
                await first_result(channel)
                for first in range(0, 10_000, 500):
                    results = [
                        pb.ActionResult(
                            flowId="f",
                            actionId=1,
                            retryCount=1 if number % 2 else 2 + number // 2,
                            status=pb.ActionResult.FAIL,
                            error="x" * 5_000,
                        )
                        for number in range(first, first + 500)
                    ]
                    message = pb.ActionResults(results=results)
                    reply = await channel.call("ActionService/PushAll", message, pb.ActionResultsPushResponse)
                    taken += sum(outcome.status for outcome in reply.outcomes)
        return taken

    async def first_result(channel: Channel) -> None:
        poll = pb.ActionPollRequest(actionType="a", batchSize=1, waitMillis=5_000)
        (action,) = (await channel.call("ActionService/Poll", poll, pb.Actions)).actions
        result = pb.ActionResult(flowId="f", actionId=1, retryCount=action.retryCount)
        assert (await channel.call("ActionService/Push", result, pb.ActionResultPushResponse)).status

    taken = trio.run(push)
    assert taken == 10_000, taken  # late results are acknowledged, so that workers drop them
    history = ask(node, "/flow/f/history")[1]["history"]
    late = [line for line in history if line["type"] == "late"]
    size_bytes = sum(len(json.dumps(line)) for line in history)
    assert len(late) <= 10, len(late)
    assert size_bytes < 60_000, size_bytes
    return f"{len(late)} late results and {size_bytes / 1000:.0f} kB in the history"


@attack("12 events of 9 MB that nobody waits for, then 1,200 small ones")
def large_kept_events(target: Target) -> str:
    """Large events are refused, all together have a limit, and the cost of one does not depend on the others."""
    node = target.node
    save(node, "w", wait(1, 2), wait(2))
    start(node, "w", "f")

    def send(event: str, data: Any) -> tuple[int, Any]:
        return ask(node, "/flow/event", {"name": "w", "flowId": "f", "event": event, "data": data})

    for _ in range(12):
        status, answer = send("other", "x" * 9_000_000)
        assert status == 413, answer
        assert "1,048,576 bytes" in answer["error"]
    kept = 0
    while (sent := send("other", "x" * 1_000_000))[0] == 200:
        kept += 1
    assert 0 < kept <= 10, kept
    assert sent[0] == 409, sent
    assert "10,485,760 bytes" in sent[1]["error"], sent
    with ThreadPoolExecutor(10) as clients:
        statuses = [status for status, _ in clients.map(lambda number: send("other", number), range(1_200))]
    assert (statuses.count(200), statuses.count(409)) == (1_000 - kept, 200 + kept)
    began = time.monotonic()
    assert send("go", "that is waited for") == (200, {"delivered": True})
    seconds = time.monotonic() - began
    assert seconds < 5, seconds
    return f"{kept} MB and 1,000 events kept, the next one took {seconds * 1000:.0f} ms"


@contextmanager
def sent(node: OrchyServer, body: Any) -> Iterator[socket.socket]:
    """A connection after a request was sent on it."""
    data = json.dumps(body).encode()
    head = "POST /flow/event HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: "
    with socket.create_connection(("127.0.0.1", node.http_port), timeout=SECONDS_MAX) as connection:
        connection.sendall(head.encode() + b"%d\r\n\r\n" % len(data) + data)
        yield connection


@attack("900 events to one flow, of which each fifth client cuts its connection in the middle")
def clients_that_leave(target: Target) -> str:
    """No event counts twice, or not at all, because another client has disconnected."""
    node, waits = target.node, 1_000
    save(node, "w", *(wait(id, id + 1) for id in range(1, waits)), wait(waits))
    start(node, "w", "f")
    chance = random.Random(1)

    def send(number: int) -> bool:
        body = {"name": "w", "flowId": "f", "event": "go", "data": number, "id": f"event {number}"}
        if number % 5:
            status, answer = ask(node, "/flow/event", body)
            assert (status, answer) == (200, {"delivered": True}), answer
            return True
        with sent(node, body) as connection:
            time.sleep(chance.uniform(0.0, 0.06))
            connection.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )  # the connection will be reset
        return False

    with ThreadPoolExecutor(30) as clients:
        answered = [number for number, good in enumerate(clients.map(send, range(900))) if good]
    again = [number for number in answered[::10] if not _is_duplicate(node, number)]
    outputs = _outputs(ask(node, "/flow/f")[1])
    assert not again, f"sent again, these counted again: {again}"
    assert len(set(outputs)) == len(outputs), "an event ended two waits"
    assert set(answered) <= set(outputs), "an event that was accepted is gone"
    return f"{len(answered)} accepted, {len(outputs)} waits ended, each by an event of its own"


def _is_duplicate(node: OrchyServer, number: int) -> bool:
    body = {"name": "w", "flowId": "f", "event": "go", "data": number, "id": f"event {number}"}
    return ask(node, "/flow/event", body) == (200, {"delivered": True, "duplicate": True})


def _outputs(flow: Any) -> Sequence[Any]:
    return [flow["data"][str(action_id)]["output"] for action_id in flow["completedActions"]]


FEW = ("--workflow-version-limit", "50", "--workflow-limit", "60", "--action-limit", "70")


@attack("200 versions of a workflow, 200 workflows and 200 actions", flags=FEW)
def endless_definitions(target: Target) -> str:
    """What is kept for ever is limited, and the errors name the limits."""
    node = target.node
    answers: dict[str, list[tuple[int, Any]]] = {"versions": [], "workflows": [], "actions": []}
    for number in range(200):
        definition = {"name": "w", "rootAction": 1, "actions": [user(1, f"a{number}")]}
        answers["versions"].append(ask(node, "/workflow", definition))
        answers["workflows"].append(ask(node, "/workflow", {**definition, "name": f"w{number}"}))
        answers["actions"].append(ask(node, "/action", {"name": f"a{number}"}))
    for what, limit, flag in (
        ("versions", 50, "--workflow-version-limit"),
        ("workflows", 59, "--workflow-limit"),
        ("actions", 70, "--action-limit"),
    ):
        statuses = [status for status, _ in answers[what]]
        assert statuses == [200] * limit + [409] * (200 - limit), (what, statuses)
        assert flag in answers[what][-1][1]["error"], answers[what][-1]
    start(node, "w", "f")
    return "50 versions, 60 workflows and 70 actions kept, the others refused with 409"


BUSY = "const end = Date.now() + 800; while (Date.now() < end); $.x = 1;"


@attack("64 starts whose scripts take 0.8 s each")
def slow_scripts(target: Target) -> str:
    """A short script of another workflow waits for the running one, not for the whole queue."""
    node = target.node
    save(node, "slow", {"id": 1, "type": "system", "name": "javascript", "expression": BUSY})
    save(node, "quick", {"id": 1, "type": "system", "name": "javascript", "expression": "$.x = 1;"})

    def begin(number: int) -> int:
        return ask(node, "/flow/execute", {"name": "slow", "flowId": f"slow-{number}"})[0]

    with ThreadPoolExecutor(64) as clients:
        busy = [clients.submit(begin, number) for number in range(64)]
        time.sleep(1)
        times = []
        for number in range(4):
            began = time.monotonic()
            start(node, "quick", f"quick-{number}")
            times.append(time.monotonic() - began)
        for number in range(64):
            ask(node, "/flow/cancel", {"name": "slow", "flowId": f"slow-{number}"})
        statuses = {one.result() for one in busy}
    assert statuses <= {200, 503}, statuses
    assert max(times) < 8, times
    return f"a quick script waited at most {max(times):.1f} s"
