"""What is run: random workflows, the actions that they use, as JSON documents that a user could have written."""

from __future__ import annotations

import random
from typing import Any

from orchy.flow.definition import ActionDefinition, RetryPolicy

ACTION_NAMES = ("pack", "ship", "bill")
EVENTS = ("go", "stop")
ACTIONS_MAX = 9
_KINDS = ("user", "user", "user", "delay", "wait", "switch", "javascript")


def draw_definitions(chance: random.Random) -> list[ActionDefinition]:
    """What workers say of each action."""
    return [
        ActionDefinition(
            name,
            retry_count=chance.choice((0, 1, 2, 3, 4)),
            retry_after_seconds=chance.choice((0, 0.5, 2, 3)),
            retry_policy=chance.choice((RetryPolicy.FIXED, RetryPolicy.BACKOFF)),
            timeout_seconds=chance.choice((1, 3, 6)),
        )
        for name in ACTION_NAMES
    ]


def draw_workflow(chance: random.Random, name: str, on_end: str) -> dict[str, Any]:
    """Up to ACTIONS_MAX actions in topological order, each reachable from the first."""
    count = chance.randint(1, ACTIONS_MAX)
    actions = [_draw_action(chance, id) for id in range(1, count + 1)]
    for target in range(2, count + 1):
        for source in chance.sample(range(1, target), min(target - 1, chance.choice((1, 1, 1, 2, 3)))):
            outcomes = _outcomes(actions[source - 1])
            for outcome in chance.sample(outcomes, min(len(outcomes), chance.choice((1, 1, 2)))):
                actions[source - 1]["next"].setdefault(outcome, []).append(target)
        if chance.random() < 0.25:
            actions[target - 1]["join"] = "any"
    for action in actions:
        if action["name"] == "switch" and not action["next"]:
            _become_user(chance, action)
    return {
        "name": name,
        "rootAction": 1,
        "onSuccess": on_end,
        "onFailure": on_end,
        "actions": actions,
    }


def draw_input(chance: random.Random) -> dict[str, Any]:
    """A flow's input: which branch each switch takes."""
    return {f"s{id}": chance.choice(("a", "b", "other")) for id in range(1, ACTIONS_MAX + 1)}


def _draw_action(chance: random.Random, id: int) -> dict[str, Any]:
    kind = chance.choice(_KINDS)
    action: dict[str, Any] = {"id": id, "type": "system", "name": kind, "next": {}}
    match kind:
        case "user":
            _become_user(chance, action)
        case "delay":
            action["delaySeconds"] = chance.choice((0.003, 0.5, 1.7, 6))
        case "wait":
            action["event"] = chance.choice(EVENTS)
            seconds = chance.choice((0, 1.5, 5, 12))
            if seconds:
                action["timeoutSeconds"] = seconds
        case "switch":
            action["expression"] = f"{{$.input.s{id}}}"
        case "javascript":
            action["expression"] = f"throw away{id}" if chance.random() < 0.04 else f"set k{id}"
    return action


def _become_user(chance: random.Random, action: dict[str, Any]) -> None:
    action.pop("expression", None)
    action.update(type="user", name=chance.choice(ACTION_NAMES), parameters={"of": "{$.input.s1}"})


def _outcomes(action: dict[str, Any]) -> list[str]:
    if action["name"] == "switch":
        return ["a", "b", "default"]
    if action["name"] == "wait":
        return [action["event"], "default"] if action.get("timeoutSeconds") else [action["event"]]
    return ["default"]
