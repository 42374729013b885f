"""The flows that a run starts: what they do, how often each is drawn, and the definitions of their actions."""

from __future__ import annotations

from typing import Any

#: More attempts than any fault uses up, so that a flow that fails in a run is a broken promise.
ATTEMPTS_MAX = 100
#: How long an attempt of an ordinary action may take. One whose worker dies comes back after it.
TIMEOUT_SECONDS = 5
SHORT_TIMEOUT_SECONDS = 1
#: How long a worker takes that misses SHORT_TIMEOUT_SECONDS.
LATE_SECONDS = 1.6
RETRY_SECONDS = 1
DELAY_SECONDS = 1.5
#: Longer than a run: the waits of these flows end by their events.
WAIT_SECONDS = 300.0
#: How long an ordinary action takes, so that a worker that is killed holds some.
WORK_SECONDS = 0.02

#: User actions: (attempts in all, seconds between them, timeout).
ACTIONS: dict[str, tuple[int, int, int]] = {
    "take": (ATTEMPTS_MAX, 0, TIMEOUT_SECONDS),
    "pack": (ATTEMPTS_MAX, 0, TIMEOUT_SECONDS),
    "ship": (ATTEMPTS_MAX, 0, TIMEOUT_SECONDS),
    "flaky": (ATTEMPTS_MAX, RETRY_SECONDS, TIMEOUT_SECONDS),
    "hasty": (ATTEMPTS_MAX, 0, SHORT_TIMEOUT_SECONDS),
}
#: The event of both waits of the shape `wait`.
EVENT = "go"


def _user(id: int, name: str, *next: int) -> dict[str, Any]:
    parameters = {"number": "{$.input.number}"}
    return {"id": id, "type": "user", "name": name, "parameters": parameters, "next": {"default": list(next)}}


def _wait(id: int, next: int) -> dict[str, Any]:
    outcomes = {EVENT: [next], "default": [next]}
    return {
        "id": id, "type": "system", "name": "wait", "event": EVENT, "timeoutSeconds": WAIT_SECONDS, "next": outcomes,
    }  # fmt: skip


def _delay(id: int, next: int) -> dict[str, Any]:
    return {"id": id, "type": "system", "name": "delay", "delaySeconds": DELAY_SECONDS, "next": {"default": [next]}}


_CHAIN = [_user(1, "take", 2), _user(2, "pack", 3), _user(3, "ship")]
_ACTIONS: dict[str, list[dict[str, Any]]] = {
    "chain": _CHAIN,
    "pause": _CHAIN,  # the client pauses it on its way, and resumes it
    "fork": [
        _user(1, "take", 2, 3, 4),
        _user(2, "pack", 5),
        _user(3, "pack", 5),
        _user(4, "pack", 5),
        _user(5, "ship"),
    ],
    "delay": [_user(1, "take", 2), _delay(2, 3), _user(3, "ship")],
    "wait": [_user(1, "take", 2), _wait(2, 3), _wait(3, 4), _user(4, "ship")],
    "retry": [_user(1, "flaky", 2), _user(2, "ship")],
    "hasty": [_user(1, "hasty", 2), _user(2, "ship")],
}
WORKFLOWS: dict[str, dict[str, Any]] = {
    shape: {"name": shape, "rootAction": 1, "actions": actions} for shape, actions in _ACTIONS.items()
}

#: Two waits at the same time; the faults that need such flows start them.
PROBE = "probe"
WORKFLOWS[PROBE] = {
    "name": PROBE,
    "rootAction": 1,
    "actions": [
        {"id": 1, "type": "system", "name": "switch", "expression": "both", "next": {"both": [2, 3]}},
        {"id": 2, "type": "system", "name": "wait", "event": "first", "next": {}},
        {"id": 3, "type": "system", "name": "wait", "event": "second", "next": {}},
    ],
}

#: The share of each shape, in percent.
WEIGHTS = {"chain": 40, "fork": 15, "delay": 15, "wait": 10, "retry": 8, "hasty": 6, "pause": 6}
