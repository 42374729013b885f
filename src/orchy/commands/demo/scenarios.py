"""Three flows of the notification workflow: how each of them should go, and how it went."""

from __future__ import annotations

import copy
import json
from datetime import datetime
from importlib.resources import files
from operator import itemgetter
from typing import Any

import attrs
import trio

from orchy.commands.demo.output import sent_line, step_line, table
from orchy.commands.demo.rest import RestClient

DELAY_SECONDS = 1
WAIT_SECONDS = 2
POLL_SECONDS = 0.05


@attrs.define
class _Scenario:
    """One flow: about which user it is, what it should do, and what it has done."""

    label: str
    user_id: int
    sends_event: bool
    completes: tuple[int, ...]
    sends: tuple[tuple[str, str], ...]  # (action, message)
    flow_id: str = ""
    state: str = ""
    completed: tuple[int, ...] = ()
    lines_seen: int = 0
    sent: list[tuple[str, str]] = attrs.field(factory=list)
    steps: list[str] = attrs.field(factory=list)

    @property
    def good(self) -> bool:
        """Whether it went as it should."""
        return (
            self.state == "COMPLETED" and self.completed == self.completes and sorted(self.sent) == sorted(self.sends)
        )


def _scenarios() -> list[_Scenario]:
    first, second = "first email message", "second email message"
    return [
        _Scenario(
            "MALE",
            1234,
            sends_event=False,
            completes=(1, 2, 3, 4, 6, 8),
            sends=(("sendSms", "Hi hi first sms get discount 20 %"), ("sendWahtsapp", "whatsapp message")),
        ),
        _Scenario(
            "FEMALE, opens",
            1235,
            sends_event=True,
            completes=(1, 2, 3, 5, 7, 9),
            sends=(("sendEmail", first), ("sendSms", "hi second sms")),
        ),
        _Scenario(
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
    """The notification workflow with short delays and timeouts."""
    workflow = _load("notification_workflow.json")
    for action in workflow["actions"]:
        if "delaySeconds" in action:
            action["delaySeconds"] = DELAY_SECONDS
        if "timeoutSeconds" in action:
            action["timeoutSeconds"] = WAIT_SECONDS
    return workflow


class Demo:
    """Plays the scenarios on one server, and prints each step."""

    def __init__(self) -> None:
        self._scenarios = _scenarios()
        self._began = 0.0  # by this process's clock
        self._began_at_store: datetime | None = None  # by the store's clock
        self._lines: list[tuple[float, str]] = []

    def on_sent(self, sent: Any) -> None:
        """The worker was asked to send a message."""
        for scenario in self._scenarios:
            if scenario.flow_id == sent["flowId"]:
                scenario.sent.append((sent["action"], sent["data"]["message"]))
                seconds = trio.current_time() - self._began
                self._lines.append((seconds, sent_line(scenario.label, seconds, sent["action"], sent["data"])))

    async def play(self, rest: RestClient) -> None:
        """Start the flows and watch them to their end."""
        await rest.post("/workflow", _workflow())
        self._began = trio.current_time()
        request = _load("notification_input.json")
        for scenario in self._scenarios:
            body = copy.deepcopy(request)
            body["input"]["userId"] = scenario.user_id
            scenario.flow_id = (await rest.post("/flow/execute", body))["flowId"]
        event_sent = False
        while any(not scenario.state for scenario in self._scenarios):
            for scenario in self._scenarios:
                if not scenario.state:
                    await self._follow(rest, scenario)
                if scenario.sends_event and not event_sent and "wait" in scenario.steps:
                    event_sent = True
                    body = {"name": "notificationWorkflow", "flowId": scenario.flow_id, "event": "open"}
                    await rest.post("/flow/event", body)
            self.print_lines()
            await trio.sleep(POLL_SECONDS)

    async def _follow(self, rest: RestClient, scenario: _Scenario) -> None:
        lines = (await rest.get(f"/flow/{scenario.flow_id}/history"))["history"]
        self._began_at_store = self._began_at_store or datetime.fromisoformat(lines[0]["time"])
        for line in lines[scenario.lines_seen :]:
            seconds = (datetime.fromisoformat(line["time"]) - self._began_at_store).total_seconds()
            self._lines.append((seconds, step_line(scenario.label, seconds, line)))
            if line["type"] == "scheduled":
                scenario.steps.append(line["actionName"])
        scenario.lines_seen = len(lines)
        if lines[-1]["type"].startswith("flow"):
            flow = await rest.get(f"/flow/{scenario.flow_id}")
            scenario.state, scenario.completed = flow["state"], tuple(flow["completedActions"])

    @property
    def good(self) -> bool:
        """Whether all flows went as they should."""
        return all(scenario.good for scenario in self._scenarios)

    def print_lines(self) -> None:
        """Print what has happened since the last call, in order."""
        for _, line in sorted(self._lines, key=itemgetter(0)):
            print(line, flush=True)
        self._lines.clear()

    def summary(self) -> str:
        """A table of what each flow did."""
        rows = [["flow", "state", "actions", "sent", "as it should be"]]
        for scenario in self._scenarios:
            actions = " ".join(map(str, scenario.completed))
            sent = ", ".join(action for action, _ in scenario.sent)
            rows.append([scenario.label, scenario.state or "?", actions, sent, "yes" if scenario.good else "NO"])
        return table(rows)
