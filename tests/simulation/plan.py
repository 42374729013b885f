"""What a workflow means, stated independently of the engine.

When an action may start, which branch a switch takes and what a worker gets: read from the saved document, for the
shapes that `workload` draws.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import attrs

_TOKEN = re.compile(r"(\{\{\$)|\{\$\.?([^}]*)\}")
_STEP = re.compile(r"\.?([A-Za-z0-9_]+)|\['([^']*)'\]|\[(-?[0-9]+)\]|(\[\*\])")


@attrs.frozen
class Action:
    """One action of the document."""

    id: int
    type: str
    name: str
    document: Mapping[str, Any]

    @property
    def next(self) -> Mapping[str, list[int]]:
        """The next actions by outcome."""
        following: Mapping[str, list[int]] = self.document["next"]
        return following

    @property
    def any(self) -> bool:
        """Whether the first edge that is taken starts it."""
        return self.document.get("join") == "any"


class Plan:
    """A workflow. Its actions are in topological order, as `workload` draws them: edges lead to higher ids."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.name: str = document["name"]
        self.root: int = document["rootAction"]
        self.actions = {
            action["id"]: Action(action["id"], action["type"], action["name"], action) for action in document["actions"]
        }
        self._into: dict[int, list[tuple[int, str]]] = {id: [] for id in self.actions}
        for action in self.actions.values():
            for outcome, targets in action.next.items():
                for target in targets:
                    self._into[target].append((action.id, outcome))

    def reached(self, outcomes: Mapping[int, str]) -> set[int]:
        """The actions that are ready, running or finished when exactly those in `outcomes` are finished.

        An edge is open, taken or dead. All edges of an action that can't be reached any more are dead. ANY: one edge is
        taken. ALL: none is open, and one is taken.
        """
        reached: set[int] = set()
        dead: set[int] = set()
        for id in sorted(self.actions):
            edges = []
            for source, outcome in self._into[id]:
                settled = source in outcomes or source in dead
                edges.append("taken" if outcomes.get(source) == outcome else "dead" if settled else "open")
            if id == self.root:
                edges.append("taken")
            if "open" not in edges and "taken" not in edges:
                dead.add(id)
            if "taken" in edges and (self.actions[id].any or "open" not in edges):
                reached.add(id)
        return reached

    def branch(self, id: int, context: Mapping[str, Any]) -> str | None:
        """The branch that a switch takes, or None if it has none for its value."""
        action = self.actions[id]
        text = text_of(resolve(action.document["expression"], context))
        for outcome in (text, "default"):
            if outcome in action.next:
                return outcome
        return None

    def parameters(self, id: int, context: Mapping[str, Any]) -> Any:
        """The parameters that a worker gets."""
        return resolve(self.actions[id].document.get("parameters", {}), context)


def resolve(template: Any, context: Mapping[str, Any]) -> Any:
    """A value with the tokens in its strings replaced; a missing value is None."""
    if isinstance(template, dict):
        return {key: resolve(item, context) for key, item in template.items()}
    if isinstance(template, list):
        return [resolve(item, context) for item in template]
    if not isinstance(template, str):
        return template
    whole = _TOKEN.fullmatch(template)
    if whole is not None and whole[2] is not None:
        return find(whole[2], context)
    return _TOKEN.sub(lambda token: "{$" if token[1] else text_of(find(token[2], context)), template)


def find(path: str, context: Mapping[str, Any]) -> Any:
    """The value of a path (without its ``$.``) in the context. A path with ``[*]`` gives a list."""
    found, many, at = [context], False, 0
    while at < len(path):
        step = _STEP.match(path, at)
        assert step is not None, f"the oracle can't read the path {path!r}"
        at = step.end()
        name, index = step[1] if step[1] is not None else step[2], step[3]
        if step[4]:
            found, many = [item for value in found if isinstance(value, list) for item in value], True
        elif index is not None:
            number = int(index)
            lists = [value for value in found if isinstance(value, list) and -len(value) <= number < len(value)]
            found = [value[number] for value in lists]
        else:
            found = [value[name] for value in found if isinstance(value, dict) and name in value]
    return found if many else found[0] if found else None


def text_of(value: Any) -> str:
    """A value as part of a text, and as the outcome of a switch."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, float) and value == int(value):
        value = int(value)
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
