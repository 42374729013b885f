"""What is wrong with a definition: all of it at once, each with its place.

The reader takes what it can and goes on; only a definition without errors becomes a `Workflow`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import attrs

from orchy.errors import InvalidInput, Problem
from orchy.flow.definition import (
    JSON,
    Action,
    ActionDefinition,
    ActionType,
    JoinMode,
    OnEnd,
    RetryPolicy,
    Workflow,
)
from orchy.flow.expressions import ExpressionError, compile_template
from orchy.flow.jsontext import escape, finite, parse_json, positions
from orchy.flow.system import SystemAction
from orchy.flow.topology import find_cycle, unreachable

NAME_LENGTH_MAX = 256
ACTIONS_MAX = 10_000
#: Ids fit into what the worker protocol has for them (int32).
ID_MAX = 2**31 - 1
SECONDS_MAX = 1e9
RETRIES_MAX = 1_000_000

_WORKFLOW_FIELDS = ("name", "rootAction", "actions", "onSuccess", "onFailure")
_ACTION_FIELDS = ("id", "type", "name", "next", "join")
_DEFINITION_FIELDS = ("name", "retry_count", "retry_after_seconds", "retry_policy", "timeout_seconds")
_TYPE_NAMES: dict[type, str] = {str: "a string", int: "an integer", float: "a number", bool: "true or false",
                                dict: "an object", list: "a list"}  # fmt: skip


@attrs.frozen
class Validated:
    """`workflow` is there when there are no errors."""

    workflow: Workflow | None
    errors: tuple[Problem, ...]
    warnings: tuple[Problem, ...]


def parse_workflow(
    source: bytes | str | Mapping[str, JSON],
    system_actions: Mapping[str, SystemAction],
    known_actions: Collection[str] | None,
) -> Validated:
    """Read a workflow definition. Raises nothing: whatever is wrong is among the errors.

    `known_actions` are the user actions that workers registered; None: don't ask. Problems have line and column
    where `source` is text.
    """
    text: str | None = None
    value: JSON = source
    if isinstance(source, bytes | str):
        try:
            value = parse_json(source)
        except InvalidInput as error:
            return Validated(None, error.problems, ())
        text = source.decode() if isinstance(source, bytes) else source
    reader = _Reader()
    workflow = _read_workflow(reader, value, system_actions, known_actions)
    places = positions(text) if text is not None and (reader.errors or reader.warnings) else {}
    errors = tuple(_place(problem, places) for problem in reader.errors)
    warnings = tuple(_place(problem, places) for problem in reader.warnings)
    return Validated(None if errors else workflow, errors, warnings)


def parse_action_definition(source: bytes | str | Mapping[str, JSON]) -> ActionDefinition:
    """Read what a worker says of an action. Raises InvalidInput with all problems."""
    value: JSON = parse_json(source) if isinstance(source, bytes | str) else source
    reader = _Reader()
    definition = ActionDefinition("")
    if not isinstance(value, Mapping):
        reader.error("", "an action definition is a JSON object")
    else:
        reader.unknown("", value, _DEFINITION_FIELDS, as_error=True)
        policy = reader.choice("", value, "retry_policy", RetryPolicy, RetryPolicy.FIXED)
        definition = ActionDefinition(
            name=reader.name("", value, "name"),
            retry_count=reader.whole("", value, "retry_count", RETRIES_MAX, 1),
            retry_after_seconds=reader.seconds("", value, "retry_after_seconds"),
            retry_policy=policy,
            timeout_seconds=reader.seconds("", value, "timeout_seconds"),
        )
    if reader.errors:
        raise InvalidInput("the action definition is not valid", reader.errors)
    return definition


def _place(problem: Problem, places: Mapping[str, tuple[int, int]]) -> Problem:
    """With line and column; a field that is missing is placed where its object is."""
    pointer = problem.pointer
    while pointer and pointer not in places:
        pointer = pointer.rpartition("/")[0]
    line, column = places.get(pointer, (None, None))
    return attrs.evolve(problem, line=line, column=column)


class _Reader:
    """Takes fields out of JSON objects and notes what is wrong with them."""

    def __init__(self) -> None:
        self.errors: list[Problem] = []
        self.warnings: list[Problem] = []

    def error(self, pointer: str, message: str) -> None:
        self.errors.append(Problem(message, pointer))

    def warn(self, pointer: str, message: str) -> None:
        self.warnings.append(Problem(message, pointer))

    def unknown(self, pointer: str, value: Mapping[str, JSON], known: Collection[str], *, as_error: bool = False) -> None:
        for key in value:
            if key not in known:
                note = self.error if as_error else self.warn
                note(f"{pointer}/{escape(key)}", f"unknown field {key!r}; known here: {', '.join(sorted(known))}")

    def typed(self, pointer: str, value: Mapping[str, JSON], key: str, types: tuple[type, ...], default: Any = ...) -> Any:
        """The field, or None and an error where it is missing (without `default`) or of another type."""
        found = value.get(key, ...)
        if found is ...:
            if default is ...:
                self.error(pointer, f"the field {key!r} is missing")
                return None
            return default
        if not isinstance(found, types) or (isinstance(found, bool) and bool not in types):
            wanted = " or ".join(dict.fromkeys(_TYPE_NAMES[kind] for kind in types))
            self.error(f"{pointer}/{escape(key)}", f"{key!r} must be {wanted}")
            return None if default is ... else default
        return found

    def name(self, pointer: str, value: Mapping[str, JSON], key: str) -> str:
        name: str | None = self.typed(pointer, value, key, (str,))
        if name is None:
            return ""
        place = f"{pointer}/{key}"
        if not name.strip():
            self.error(place, f"{key!r} is empty")
        elif len(name) > NAME_LENGTH_MAX:
            self.error(place, f"{key!r} has more than {NAME_LENGTH_MAX} characters")
        elif not name.isprintable():
            self.error(place, f"{key!r} has characters that can't be printed")
        return name

    def choice(self, pointer: str, value: Mapping[str, JSON], key: str, kind: Any, default: Any) -> Any:
        text: str | None = self.typed(pointer, value, key, (str,), default.value)
        choices = {item.value.lower(): item for item in kind}
        if text is not None and text.lower() in choices:
            return choices[text.lower()]
        if text is not None:
            wanted = ", ".join(item.value for item in kind)
            self.error(f"{pointer}/{key}", f"{key!r} is {text!r} but must be one of {wanted}")
        return default

    def whole(self, pointer: str, value: Mapping[str, JSON], key: str, most: int, default: int) -> int:
        number: int = self.typed(pointer, value, key, (int,), default)
        if not 0 <= number <= most:
            self.error(f"{pointer}/{key}", f"{key!r} must be from 0 to {most}")
        return number

    def seconds(self, pointer: str, value: Mapping[str, JSON], key: str) -> float:
        number: float = self.typed(pointer, value, key, (int, float), 0)
        if not (finite(number) and 0 <= number <= SECONDS_MAX):
            self.error(f"{pointer}/{key}", f"{key!r} must be from 0 to {SECONDS_MAX:.0f} seconds")
        return number


def _read_workflow(
    reader: _Reader, value: JSON, system_actions: Mapping[str, SystemAction], known_actions: Collection[str] | None
) -> Workflow | None:
    if not isinstance(value, Mapping):
        reader.error("", "a workflow definition is a JSON object")
        return None
    reader.unknown("", value, _WORKFLOW_FIELDS)
    name = reader.name("", value, "name")
    root = reader.typed("", value, "rootAction", (int,))
    on_success = reader.choice("", value, "onSuccess", OnEnd, OnEnd.NOOP)
    on_failure = reader.choice("", value, "onFailure", OnEnd, OnEnd.NOOP)
    items = reader.typed("", value, "actions", (list,)) or []
    if not items and isinstance(value.get("actions"), list):
        reader.error("/actions", "a workflow needs at least one action")
    if len(items) > ACTIONS_MAX:
        reader.error("/actions", f"a workflow has at most {ACTIONS_MAX} actions, this one has {len(items)}")
        return None
    actions: dict[int, Action] = {}
    pointers: dict[int, str] = {}
    for index, item in enumerate(items):
        pointer = f"/actions/{index}"
        if not isinstance(item, Mapping):
            reader.error(pointer, "an action is a JSON object")
            continue
        action = _read_action(reader, pointer, item, system_actions)
        if action is None:
            continue
        if action.id in actions:
            reader.error(f"{pointer}/id", f"the id {action.id} is that of {pointers[action.id]} already")
            continue
        actions[action.id], pointers[action.id] = action, pointer
        if action.type is ActionType.USER and known_actions is not None and action.name not in known_actions:
            reader.warn(f"{pointer}/name", f"no worker has registered the action {action.name!r} yet")
    _check_graph(reader, root, actions, pointers)
    if root is None:
        return None
    return Workflow(name, root, actions, on_success, on_failure, source=value)


def _read_action(
    reader: _Reader, pointer: str, item: Mapping[str, JSON], system_actions: Mapping[str, SystemAction]
) -> Action | None:
    """The action as far as it can be read; None when it has no id of its own to be known by."""
    id = reader.typed(pointer, item, "id", (int,))
    if id is not None and not 0 <= id <= ID_MAX:
        reader.error(f"{pointer}/id", f"an id must be from 0 to {ID_MAX}")
    name = reader.name(pointer, item, "name")
    kind = reader.typed(pointer, item, "type", (str,))
    if kind is not None and kind.lower() not in ("user", "system"):
        reader.error(f"{pointer}/type", f"the type is {kind!r} but must be user or system")
    join = reader.choice(pointer, item, "join", JoinMode, JoinMode.ALL)
    following = _read_next(reader, pointer, item)
    parameters: Mapping[str, JSON] = {}
    settings: dict[str, JSON] = {}
    is_user = kind is not None and kind.lower() == "user"
    if is_user:
        reader.unknown(pointer, item, (*_ACTION_FIELDS, "parameters"))
        parameters = reader.typed(pointer, item, "parameters", (dict,), {})
        _check_expressions(reader, f"{pointer}/parameters", parameters)
    elif kind is not None and kind.lower() == "system":
        settings = _read_settings(reader, pointer, item, name, system_actions)
    if id is None:
        return None
    action = Action(
        id, ActionType.USER if is_user else ActionType.SYSTEM, name, parameters, following, join, settings
    )
    if not is_user and name in system_actions and settings:
        for fault in system_actions[name].faults(action):
            reader.error(f"{pointer}/{fault.field}".rstrip("/"), fault.message)
    _check_outcomes(reader, pointer, action)
    return action


def _read_settings(
    reader: _Reader,
    pointer: str,
    item: Mapping[str, JSON],
    name: str,
    system_actions: Mapping[str, SystemAction],
) -> dict[str, JSON]:
    """The fields that the system action has of its own; empty when one of them is wrong."""
    kind = system_actions.get(name)
    if kind is None:
        if name:
            known = ", ".join(sorted(system_actions))
            reader.error(f"{pointer}/name", f"there is no system action {name!r}; there are {known}")
        return {}
    reader.unknown(pointer, item, (*_ACTION_FIELDS, *kind.fields))
    before = len(reader.errors)
    settings: dict[str, JSON] = {}
    for key, field in kind.fields.items():
        found = reader.typed(pointer, item, key, field.types, ... if field.required else None)
        if found is not None:
            settings[key] = found
    return settings if len(reader.errors) == before else {}


def _read_next(reader: _Reader, pointer: str, item: Mapping[str, JSON]) -> dict[str, tuple[int, ...]]:
    following: dict[str, tuple[int, ...]] = {}
    for outcome, targets in reader.typed(pointer, item, "next", (dict,), {}).items():
        place = f"{pointer}/next/{escape(outcome)}"
        if not isinstance(targets, list) or any(not isinstance(t, int) or isinstance(t, bool) for t in targets):
            reader.error(place, "an outcome leads to a list of action ids")
            continue
        if len(set(targets)) < len(targets):
            reader.error(place, "an action stands twice in this list")
        following[outcome] = tuple(targets)
    return following


def _check_outcomes(reader: _Reader, pointer: str, action: Action) -> None:
    if action.type is ActionType.SYSTEM and action.name == "switch":
        return
    possible = {"default", action.settings.get("event", "default")}
    for outcome in action.next:
        if outcome not in possible:
            named = " or ".join(sorted(repr(name) for name in possible))
            reader.warn(
                f"{pointer}/next/{escape(outcome)}", f"the outcome {outcome!r} never happens here, only {named}"
            )


def _check_expressions(reader: _Reader, pointer: str, value: JSON) -> None:
    for place, text in _texts(pointer, value):
        try:
            compile_template(text)
        except ExpressionError as error:
            reader.error(place, str(error))


def _texts(pointer: str, value: JSON) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield pointer, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(f"{pointer}/{escape(key)}", item)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _texts(f"{pointer}/{index}", item)


def _check_graph(
    reader: _Reader, root: int | None, actions: Mapping[int, Action], pointers: Mapping[int, str]
) -> None:
    if root is not None and root not in actions:
        reader.error("/rootAction", f"there is no action {root}")
    edges: dict[int, list[int]] = {}
    for action in actions.values():
        targets = edges.setdefault(action.id, [])
        for outcome, ids in action.next.items():
            for position, target in enumerate(ids):
                if target in actions:
                    targets.append(target)
                else:
                    place = f"{pointers[action.id]}/next/{escape(outcome)}/{position}"
                    reader.error(place, f"there is no action {target}")
    cycle = find_cycle(edges)
    if cycle:
        reader.error(pointers[cycle[0]], f"the actions go round in a circle: {' -> '.join(map(str, cycle))}")
    if root in actions:
        for id in unreachable(edges, root):
            reader.error(pointers[id], f"no way leads to action {id} from the root action {root}")
