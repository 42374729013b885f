"""The story of the demo, and whether it went as it should."""

from __future__ import annotations

import argparse
import copy
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import datetime
from importlib.resources import files
from operator import itemgetter
from typing import Any

import attrs
import trio

from orchy.commands.demo.processes import DemoServer, open_server, open_worker
from orchy.commands.demo.rest import RestClient
from orchy.commands.demo.show import sent_line, step_line, table
from orchy.runtime.nurseries import first_error

DELAY_SECONDS = 1
WAIT_SECONDS = 2
LIMIT_SECONDS = 60.0
LOOK_SECONDS = 0.05
#: In the middle of the flows.
KILL_AFTER_SECONDS = 0.8
NODES_MAX = 9


@attrs.define
class _Story:
    """One flow: whom it is about, and what is to become of it."""

    label: str
    user_id: int
    sends_event: bool
    completes: tuple[int, ...]
    sends: tuple[tuple[str, str], ...]  # (action, message) that the worker is to be asked for
    flow_id: str = ""
    state: str = ""
    completed: tuple[int, ...] = ()
    seen: int = 0
    sent: list[tuple[str, str]] = attrs.field(factory=list)
    steps: list[str] = attrs.field(factory=list)

    def as_told(self) -> bool:
        """Whether it went as it should."""
        return (
            self.state == "COMPLETED" and self.completed == self.completes and sorted(self.sent) == sorted(self.sends)
        )


def _stories() -> list[_Story]:
    first, second = "first email message", "second email message"
    return [
        _Story(
            "MALE",
            1234,
            sends_event=False,
            completes=(1, 2, 3, 4, 6, 8),
            sends=(("sendSms", "Hi hi first sms get discount 20 %"), ("sendWahtsapp", "whatsapp message")),
        ),
        _Story(
            "FEMALE, opens",
            1235,
            sends_event=True,
            completes=(1, 2, 3, 5, 7, 9),
            sends=(("sendEmail", first), ("sendSms", "hi second sms")),
        ),
        _Story(
            "FEMALE, waits",
            1236,
            sends_event=False,
            completes=(1, 2, 3, 5, 7, 10),
            sends=(("sendEmail", first), ("sendEmail", second)),
        ),
    ]


def _load(name: str) -> Any:
    return json.loads((files("orchy.commands.demo") / name).read_text("utf-8"))


def _workflow() -> Any:
    """The notification workflow with its waits shortened."""
    workflow = _load("notification_workflow.json")
    for action in workflow["actions"]:
        if "delaySeconds" in action:
            action["delaySeconds"] = DELAY_SECONDS
        if "timeoutSeconds" in action:
            action["timeoutSeconds"] = WAIT_SECONDS
    return workflow


class _Demo:
    """Three stories on one server."""

    def __init__(self) -> None:
        self.stories = _stories()
        self.began = 0.0  # by this process's clock
        self.began_there: datetime | None = None  # by the store's
        self.lines: list[tuple[float, str]] = []

    def on_sent(self, sent: Any) -> None:
        """The worker was asked to send something."""
        for story in self.stories:
            if story.flow_id == sent["flowId"]:
                story.sent.append((sent["action"], sent["data"]["message"]))
                seconds = trio.current_time() - self.began
                self.lines.append((seconds, sent_line(story.label, seconds, sent["action"], sent["data"])))

    async def tell(self, rest: RestClient) -> None:
        """Start the flows and watch them to their end."""
        await rest.post("/workflow", _workflow())
        self.began = trio.current_time()
        request = _load("notification_input.json")
        for story in self.stories:
            body = copy.deepcopy(request)
            body["input"]["userId"] = story.user_id
            story.flow_id = (await rest.post("/flow/execute", body))["flowId"]
        event_sent = False
        while any(not story.state for story in self.stories):
            for story in self.stories:
                if not story.state:
                    await self._look(rest, story)
                if story.sends_event and not event_sent and "wait" in story.steps:
                    event_sent = True
                    body = {"name": "notificationWorkflow", "flowId": story.flow_id, "event": "open"}
                    await rest.post("/flow/event", body)
            self.print_lines()
            await trio.sleep(LOOK_SECONDS)

    async def _look(self, rest: RestClient, story: _Story) -> None:
        lines = (await rest.get(f"/flow/{story.flow_id}/history"))["history"]
        self.began_there = self.began_there or datetime.fromisoformat(lines[0]["time"])
        for line in lines[story.seen :]:
            seconds = (datetime.fromisoformat(line["time"]) - self.began_there).total_seconds()
            self.lines.append((seconds, step_line(story.label, seconds, line)))
            if line["type"] == "scheduled":
                story.steps.append(line["actionName"])
        story.seen = len(lines)
        if lines[-1]["type"].startswith("flow"):
            flow = await rest.get(f"/flow/{story.flow_id}")
            story.state, story.completed = flow["state"], tuple(flow["completedActions"])

    def print_lines(self) -> None:
        """What happened since the last time, in order."""
        for _, line in sorted(self.lines, key=itemgetter(0)):
            print(line, flush=True)
        self.lines.clear()

    def summary(self) -> str:
        """What each flow did."""
        rows = [["flow", "state", "actions", "sent", "as it should be"]]
        for story in self.stories:
            actions = " ".join(map(str, story.completed))
            sent = ", ".join(action for action, _ in story.sent)
            rows.append([story.label, story.state or "?", actions, sent, "yes" if story.as_told() else "NO"])
        return table(rows)


async def _run(flags: Sequence[str], nodes: int) -> bool:
    demo = _Demo()
    print(
        f"Starting {nodes} servers and a worker ..." if nodes > 1 else "Starting a server and a worker ...", flush=True
    )
    with trio.move_on_after(LIMIT_SECONDS) as limit:
        async with AsyncExitStack() as stack:
            servers: list[DemoServer] = []
            for number in range(1, nodes + 1):
                joins = ["--cluster-address", servers[0].gossip] if servers else []
                server = await stack.enter_async_context(
                    open_server([*flags, "--gossip-profile", "fast", *joins], f"demo{number}")
                )
                servers.append(server)
            if nodes > 1:
                await _await_even(servers[0].rest, nodes)
            await stack.enter_async_context(open_worker(servers[0].workers, demo.on_sent))
            print("Three flows of notificationWorkflow: one to a man, two to women of whom one opens her mail.\n")
            async with trio.open_nursery() as nursery:
                if nodes > 1:
                    nursery.start_soon(_kill_one, servers[0].rest, servers[-1], nodes)
                await demo.tell(servers[0].rest)
            # The worker's last words may still be on their way.
            with trio.move_on_after(2):
                while not all(story.as_told() for story in demo.stories):
                    await trio.sleep(LOOK_SECONDS)
            demo.print_lines()
    if limit.cancelled_caught:
        print(f"\nNot done after {LIMIT_SECONDS:.0f} s.")
    print(f"\n{demo.summary()}\n")
    return not limit.cancelled_caught and all(story.as_told() for story in demo.stories)


async def _owners(rest: RestClient) -> Counter[str]:
    """How many partitions each node holds."""
    return Counter(partition["owner"] or "nobody" for partition in (await rest.get("/cluster"))["partitions"])


async def _await_even(rest: RestClient, nodes: int) -> None:
    """Until so many nodes hold the same number of partitions, to within one."""
    while True:
        owners = await _owners(rest)
        if len(owners) == nodes and "nobody" not in owners and max(owners.values()) - min(owners.values()) <= 1:
            break
        await trio.sleep(LOOK_SECONDS)
    print("Partitions: " + ", ".join(f"{node} {count}" for node, count in sorted(owners.items())), flush=True)


async def _kill_one(rest: RestClient, victim: DemoServer, nodes: int) -> None:
    """kill -9 in the middle; the partitions go to the others."""
    await trio.sleep(KILL_AFTER_SECONDS)
    victim.process.kill()
    began = trio.current_time()
    print(f"{'':>8}  {victim.node} is killed", flush=True)
    await _await_even(rest, nodes - 1)
    print(f"{'':>8}  owned again {trio.current_time() - began:.1f} s after the kill", flush=True)


def run_demo(argv: Sequence[str]) -> int:
    """The exit code: 0 only if each flow went as it should."""
    parser = argparse.ArgumentParser(
        prog="python -m orchy demo",
        description="Starts a server with a store of its own and a worker, and shows three flows of a real workflow.",
    )
    parser.add_argument("--redis-addr", metavar="HOST:PORT[,...]", help="use this Redis, or Redis Cluster, instead")
    parser.add_argument("--namespace", default="orchy-demo", help="prefix of the keys there (default: %(default)s)")
    parser.add_argument(
        "--nodes",
        type=int,
        default=1,
        choices=range(1, NODES_MAX + 1),
        metavar="N",
        help="start so many servers, and kill one in the middle (default: %(default)s)",
    )
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="orchy-demo-") as data_dir:
        flags = ["--namespace", arguments.namespace, "--data-dir", data_dir]
        if arguments.redis_addr:
            flags += ["--redis-addr", arguments.redis_addr]
        try:
            good = trio.run(_run, flags, arguments.nodes)
        except KeyboardInterrupt:
            return 130
        except BaseExceptionGroup as group:
            error = first_error(group)
            if not isinstance(error, RuntimeError | OSError):
                raise
            print(f"orchy demo: {error}", file=sys.stderr)
            return 1
    print("All went as it should." if good else "Something did not go as it should.")
    return 0 if good else 1
