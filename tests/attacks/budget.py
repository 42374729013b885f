"""Definitions meant to freeze a node, fill its memory, or crash it: expressions, patterns, sizes, a bug."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.attacks.harness import Target, attack, memory_mb
from tests.conftest import OrchyServer

SETTLE_SECONDS = 60.0
SEED = 20_260_727
SAMPLE = 15
ALL = 200
#: How much a node may grow for one definition. After all of them it has grown by the inputs that it may keep, and by
#: what the allocator does not return.
GROWN_MB_MAX = 100.0
KEPT_MB_MAX = 250.0
BUGGY = (str(Path(__file__).with_name("buggy_node.py")),)


def workflow(name: str, *actions: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "rootAction": actions[0]["id"], "actions": list(actions)}


def user(number: int, parameters: Any, **more: Any) -> dict[str, Any]:
    return {"id": number, "type": "user", "name": "nobody", "parameters": parameters, **more}


def system(number: int, name: str, *following: int, **fields: Any) -> dict[str, Any]:
    next_ = {"default": list(following)} if following else {}
    return {"id": number, "type": "system", "name": name, "next": next_, **fields}


def nested(depth: int, leaf: Any = 1) -> Any:
    for _ in range(depth):
        leaf = {"a": leaf}
    return leaf


def until(node: OrchyServer, flow_id: str, *states: str) -> dict[str, Any]:
    """The flow, once it is in one of these states."""
    give_up_at = time.monotonic() + SETTLE_SECONDS
    while (flow := node.get(f"/flow/{flow_id}"))["state"] not in states:
        assert time.monotonic() < give_up_at, f"{flow_id} is {flow['state']}"
        time.sleep(0.05)
    return flow


def _fails(node: OrchyServer, parameters: Any, document: Any, why: str) -> None:
    """A user action and a switch with this expression, at once and after a delay: all fail for this reason."""
    node.post("/workflow", workflow("direct", user(1, {"x": parameters})))
    node.post("/workflow", workflow("later", system(1, "delay", 2, delaySeconds=0.3), user(2, {"x": parameters})))
    node.post(
        "/workflow", workflow("switch", system(1, "switch", expression=parameters, next={"a": [], "default": []}))
    )
    flows = [
        node.post("/flow/execute", {"name": name, "input": document})["flowId"]
        for name in ("direct", "later", "switch", "later")
    ]
    for flow_id in flows:
        error = until(node, flow_id, "FAILED")["error"]
        assert why in error, error


@attack("descents in descents, over an object 90 deep", waits_seconds_max=0.25)
def a_path_of_descents(target: Target) -> str:
    _fails(target.node, "{$.input..*..*..*..*}", nested(90), "visits more than")
    return "4 flows failed with an error that names the expression"


@attack("a regular expression of nested counted repeats over 20 texts of 100 kB", waits_seconds_max=0.25)
def a_pattern_of_repeats(target: Target) -> str:
    path = "{$.input[?(@ =~ '((a{0,30}){0,30}){0,1}b')]}"
    _fails(target.node, path, ["a" * 100_000] * 20, "steps for its regular expressions")
    return "4 flows failed with an error that names the expression"


@attack("a value of 1 MB inserted a thousand times", waits_seconds_max=0.25)
def an_input_a_thousand_times(target: Target) -> str:
    _fails(target.node, "{$.input}" * 1_000, "x" * 1_000_000, "makes a result of more than")
    return "4 flows failed with an error that names the expression"


@attack("1,000 actions at once, each with an expression at its limit", waits_seconds_max=0.25)
def a_thousand_costly_actions(target: Target) -> str:
    node = target.node
    many = list(range(2, 1_002))
    actions = [user(number, {"x": "{$.input[?(@ > 0)]}"}) for number in many]
    node.post("/workflow", workflow("wide", system(1, "delay", *many, delaySeconds=0.1), *actions))
    flow_id = node.post("/flow/execute", {"name": "wide", "input": list(range(5_000))})["flowId"]
    time.sleep(5)
    history = Counter(line["type"] for line in node.get(f"/flow/{flow_id}/history")["history"])
    assert history["postponed"] > 0, history
    node.post("/flow/cancel", {"name": "wide", "flowId": flow_id})
    return f"{history['scheduled']} actions were begun within 5 s, commit by commit"


@attack(
    "definitions of 4 MB that are expensive to read, and a body with 400,000 equal keys",
    waits_seconds_max=0.5,
    memory_mb_max=200,
)
def definitions_that_are_hard_to_read(target: Target) -> str:
    node = target.node
    refused = 0
    for body in (
        json.dumps(workflow("bad", user(1, {"x": ["{$.input["] * 250_000}))).encode(),
        json.dumps(workflow("long", user(1, {"x": [f"{{$.input[*].a{n}}}" for n in range(2_000)]}))).encode(),
        b'{"name":"w",' + b",".join([b'"a":1'] * 400_000) + b"}",
        b"[" * 2_000_000,
    ):
        try:
            node.call("POST", "/workflow", body)
        except RuntimeError as error:
            assert str(error).startswith(("400", "413")), str(error)[:200]
            refused += 1
        except TimeoutError:
            refused += 1
    return f"{refused} of 4 refused"


# Generated ones.

_STEPS = [
    "..*", "..a", "[*]", ".*", "[0:100000]", "[?(@ > 1)]", "[?(@..a)]", "[?(@ == $.input)]", "[?(@..* == $..a)]",
    ".`len`",
    ".`keys`", ".`sorted`", "[\\a]", "[/a,\\b]", ".`str()`", ".`split(a, *, -1)`", ".`sub(/(a|b)*/, \\1\\1\\1\\1)`",
    "[?(@ =~ '(a{0,30}){0,30}b')]", "[?(@ =~ '(a|b)*a.{60}')]", "['a','b','a','b']", "[0,0,0,0,0,0]", ".`parent`", ".a",
    "[?(@..[?(@..[?(@.a == $.input)])])]",
]  # fmt: skip
_DOCUMENTS: list[Any] = [
    lambda: nested(90),
    lambda: nested(90, ["a" * 1_000] * 100),
    lambda: list(range(100_000)),
    lambda: [{"a": number, "b": "ab"} for number in range(30_000)],
    lambda: {str(number): number for number in range(50_000)},
    lambda: ["a" * 100_000] * 20,
    lambda: "ab" * 500_000,
    lambda: [[[[1] * 10] * 10] * 10] * 30,
]


def hostile(seed: int, count: int) -> Iterator[tuple[dict[str, Any], Any]]:
    """Generated definitions, and inputs for them."""
    chance = random.Random(seed)
    for number in range(count):
        token = "{$.input" + "".join(chance.choices(_STEPS, k=chance.randint(1, 5))) + "}"
        text = chance.choice([token, token * 20, f"x{token}", "{$.input}" * 50, token])
        parameters = chance.choice([{"x": text}, {"x": [text] * 50}, {"x": {str(key): text for key in range(20)}}])
        actions = chance.choice(
            [
                [user(1, parameters)],
                [system(1, "switch", expression=text, next={"a": [2], "default": [2]}), user(2, {})],
                [system(1, "delay", 2, delaySeconds=0.05), user(2, parameters)],
                [system(1, "delay", *range(2, 42), delaySeconds=0.05), *(user(at, parameters) for at in range(2, 42))],
            ]
        )
        yield workflow(f"hostile-{number}", *actions), chance.choice(_DOCUMENTS)()


def _all_of(node: OrchyServer, count: int) -> str:
    seen: Counter[str] = Counter()
    most_mb = 0.0
    for definition, document in hostile(SEED, count):
        try:
            node.post("/workflow", definition)
        except RuntimeError as error:
            assert str(error).startswith("400"), error
            seen["refused"] += 1
            continue
        before_mb = memory_mb(node)
        flow_id = node.post("/flow/execute", {"name": definition["name"], "input": document})["flowId"]
        time.sleep(0.1)
        give_up_at = time.monotonic() + SETTLE_SECONDS
        while (flow := node.get(f"/flow/{flow_id}"))["state"] == "WAITING_DELAY":
            assert time.monotonic() < give_up_at, flow_id
            time.sleep(0.05)
        assert "quarantined" not in flow, flow["quarantined"]
        if flow["state"] == "RUNNING":
            node.post("/flow/cancel", {"name": definition["name"], "flowId": flow_id})
        seen[flow["state"].lower()] += 1
        most_mb = max(most_mb, memory_mb(node) - before_mb)
    assert most_mb < GROWN_MB_MAX, f"{most_mb:.0f} MB more for one definition"
    came = ", ".join(f"{number} {what}" for what, number in sorted(seen.items()))
    return f"{count} definitions: {came}; at most {most_mb:.0f} MB more for one"


@attack(f"{SAMPLE} of the {ALL} generated definitions", waits_seconds_max=0.25, memory_mb_max=KEPT_MB_MAX)
def some_generated_definitions(target: Target) -> str:
    return _all_of(target.node, SAMPLE)


@attack(f"{ALL} generated hostile definitions", waits_seconds_max=0.25, memory_mb_max=KEPT_MB_MAX, slow=True)
def all_generated_definitions(target: Target) -> str:
    return _all_of(target.node, ALL)


# A bug.


@attack("a flow that meets an error in Orchy itself, on a cluster of two", nodes=2, program=BUGGY)
def a_flow_that_meets_a_bug(target: Target) -> str:
    first, second = target.nodes
    delay, wait = system(1, "delay", 2, delaySeconds=0.2), system(2, "wait", event="go", next={"go": []})
    first.post("/workflow", workflow("w", delay, wait))
    bad = first.post("/flow/execute", {"name": "w", "input": {"bad": True}})["flowId"]
    good = [second.post("/flow/execute", {"name": "w", "input": {}})["flowId"] for _ in range(10)]
    for flow_id in good:
        until(second, flow_id, "WAITING_EVENT")
    began = time.monotonic()
    while not (listed := second.get("/flow?quarantined=true")["flows"]):
        assert time.monotonic() < began + 90, "it is not in quarantine"
        time.sleep(0.2)
    took = time.monotonic() - began
    shown = first.get(f"/flow/{bad}")
    assert [flow["id"] for flow in listed] == [bad]
    assert shown["state"] == "WAITING_DELAY"
    assert shown["quarantined"]["error"] == "KeyError: 'a bug'"
    assert first.post("/flow/release", {"flowId": bad, "reason": "a try"})["released"]
    first.post("/flow/cancel", {"name": "w", "flowId": bad})
    until(second, bad, "CANCELLED")
    return f"in quarantine after {took:.0f} s, both nodes serve"
