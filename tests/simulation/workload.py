"""Random workflows and action definitions, as JSON documents that a user could have written."""

from __future__ import annotations

import random
from typing import Any

from orchy.flow.definition import ActionDefinition, RetryPolicy

ACTION_NAMES = ("pack", "ship", "bill")
EVENTS = ("go", "stop")
ACTIONS_MAX = 9
_KINDS = ("user", "user", "user", "delay", "wait", "switch", "javascript")
#: Of a workflow with many joins and branches, and of one that consists mostly of waits.
_WIDE_KINDS = ("user", "user", "switch", "switch", "javascript")
_WAITING_KINDS = ("wait", "wait", "user")
#: Values of a result's `pick`, by which a later switch takes its branch.
PICKS = ("a", "b", "c", "other")


def draw_definitions(rng: random.Random) -> list[ActionDefinition]:
    """Draw the definition of each action."""
    return [
        ActionDefinition(
            name,
            retry_count=rng.choice((0, 1, 2, 3, 4)),
            retry_after_seconds=rng.choice((0, 0.5, 2, 3)),
            retry_policy=rng.choice((RetryPolicy.FIXED, RetryPolicy.BACKOFF)),
            timeout_seconds=rng.choice((1, 3, 6)),
        )
        for name in ACTION_NAMES
    ]


def draw_workflow(rng: random.Random, name: str, on_end: str) -> dict[str, Any]:
    """Draw up to ACTIONS_MAX actions in topological order, each reachable from the first."""
    count = rng.randint(1, ACTIONS_MAX)
    kinds = rng.choice((_KINDS, _KINDS, _WIDE_KINDS, _WAITING_KINDS))
    actions: list[dict[str, Any]] = []
    for id in range(1, count + 1):
        actions.append(_draw_action(rng, id, rng.choice(kinds), actions))
    for target in range(2, count + 1):
        for source in rng.sample(range(1, target), min(target - 1, rng.choice((1, 1, 1, 2, 3)))):
            outcomes = _outcomes(actions[source - 1])
            for outcome in rng.sample(outcomes, min(len(outcomes), rng.choice((1, 1, 2)))):
                actions[source - 1]["next"].setdefault(outcome, []).append(target)
        if rng.random() < 0.25:
            actions[target - 1]["join"] = "any"
    for action in actions:
        if action["name"] == "switch":
            if not action["next"]:
                _become_user(rng, action, actions)
            elif rng.random() < 0.8:  # without it the switch may find no branch, and the flow fails
                action["next"].setdefault("default", [])
        action.pop("branches", None)
    return {
        "name": name,
        "rootAction": 1,
        "onSuccess": on_end,
        "onFailure": on_end,
        "actions": actions,
    }


def draw_stages(name: str, on_end: str) -> dict[str, Any]:
    """A chain of waits, each for an event of its own, for crowds that send many of each."""
    actions = [
        {"id": id, "type": "system", "name": "wait", "event": f"stage{id}", "next": {f"stage{id}": [id + 1]}}
        for id in range(1, ACTIONS_MAX)
    ]
    actions.append({"id": ACTIONS_MAX, "type": "system", "name": "wait", "event": "go", "next": {}})
    return {"name": name, "rootAction": 1, "onSuccess": on_end, "onFailure": on_end, "actions": actions}


def draw_input(rng: random.Random) -> dict[str, Any]:
    """Draw a flow's input: the branch of each switch, and values of each type for parameters."""
    return {
        **{f"s{id}": rng.choice(PICKS) for id in range(1, ACTIONS_MAX + 1)},
        "number": rng.choice((0, 1, 2, 17)),
        "part": rng.choice((0.5, 2.25)),
        "flag": rng.random() < 0.5,
        "none": None,
        "first name": rng.choice(("Ada", "Grace", "")),
        "items": [{"price": rng.randint(1, 3), "tags": ["x", f"t{n}"]} for n in range(rng.randint(0, 3))],
    }


def _draw_action(rng: random.Random, id: int, kind: str, before: list[dict[str, Any]]) -> dict[str, Any]:
    action: dict[str, Any] = {"id": id, "type": "system", "name": kind, "next": {}}
    match kind:
        case "user":
            _become_user(rng, action, before)
        case "delay":
            action["delaySeconds"] = rng.choice((0.003, 0.5, 1.7, 6))
        case "wait":
            action["event"] = rng.choice(EVENTS)
            seconds = rng.choice((0, 1.5, 5, 12))
            if seconds:
                action["timeoutSeconds"] = seconds
        case "switch":
            action["expression"], action["branches"] = _draw_switch(rng, id, before)
        case "javascript":
            action["expression"] = _draw_script(rng, id)
    return action


def _draw_switch(rng: random.Random, id: int, before: list[dict[str, Any]]) -> tuple[str, list[str]]:
    """Draw an expression, and the branches that its values may take."""
    forms = [
        (f"{{$.input.s{id}}}", ["a", "b", "c", "default"]),
        (f"{{$.input['s{id}']}}", ["a", "b", "default"]),
        ("{$.input.number}", ["0", "1", "2", "default"]),
        ("{$.input.flag}", ["true", "false"]),
        (f"{{$.input.s{id}}}-{{$.input.flag}}", ["a-true", "b-false", "default"]),
        ("{$.input.items[0].price}", ["1", "2", "", "default"]),
        ("{$.input.nothing}", ["", "a", "default"]),
    ]
    users = [action["id"] for action in before if action["type"] == "user"]
    if users:
        forms += 3 * [(f"{{${rng.choice(users)}.output.pick}}", ["a", "b", "c", "default"])]
    return rng.choice(forms)


def _draw_script(rng: random.Random, id: int) -> str:
    if rng.random() < 0.04:
        return f"throw away{id}"
    return rng.choice((f"set k{id}", f"copy k{id} $.input.items[-1].price", f"copy k{id} $.input.s{id}"))


def _become_user(rng: random.Random, action: dict[str, Any], before: list[dict[str, Any]]) -> None:
    action.pop("expression", None)
    action.update(type="user", name=rng.choice(ACTION_NAMES), parameters=_draw_parameters(rng, action, before))


def _draw_parameters(rng: random.Random, action: dict[str, Any], before: list[dict[str, Any]]) -> dict[str, Any]:
    """Draw parameters that are never empty, so that lost ones are noticed."""
    forms: dict[str, Any] = {
        "of": "{$.input.s1}",
        "number": "{$.input.number}",
        "whole": "{$.input}",
        "named": "{$.input['first name']}",
        "text": "{$.input.number} of {$.input.part}, {$.input.flag}; {$.input.none}. {{$.input.s1}",
        "last": "{$.input.items[-1].tags[0]}",
        "prices": "{$.input.items[*].price}",
        "missing": "{$.input.nothing.at[0].all}",
        "deep": [1, None, {"list": ["{$.input.flag}", True, 0.5], "empty": {}, "none": []}],
    }
    earlier = [other["id"] for other in before if other["id"] < action["id"]]
    if earlier:  # that action may finish later, or never
        source = rng.choice(earlier)
        forms["result"] = f"{{$.{source}.output}}"
        forms["token"] = f"{{${source}.output.token}} after {{$.{source}.output.pick}}"
    return {name: forms[name] for name in ("of", *rng.sample(sorted(forms), 3))}


def _outcomes(action: dict[str, Any]) -> list[str]:
    if action["name"] == "switch":
        branches: list[str] = action["branches"]
        return branches
    if action["name"] == "wait":
        return [action["event"], "default"] if action.get("timeoutSeconds") else [action["event"]]
    return ["default"]
