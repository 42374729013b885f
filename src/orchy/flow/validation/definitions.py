"""Parses and validates definitions.

All problems are reported at once, each with a JSON pointer and, if the definition was JSON text, line and column. Only
`parse_action_definition` raises, and only InvalidInput.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum
from itertools import islice
from typing import Protocol, runtime_checkable

import attrs
import msgspec.inspect

from orchy.errors import InvalidInput, Problem
from orchy.flow.definition import (
    DEFAULT_OUTCOME,
    JSON,
    Action,
    ActionDefinition,
    ActionType,
    JoinMode,
    OnEnd,
    Workflow,
)
from orchy.flow.expressions.lookalikes import lookalikes_in
from orchy.flow.expressions.paths import Steps
from orchy.flow.expressions.templates import expression_problems, tokens_in
from orchy.flow.json.scan import Where
from orchy.flow.json.text import not_json, pointer, read_json
from orchy.flow.system import SystemAction
from orchy.flow.validation.names import NAME_CHARS_MAX, name_problem
from orchy.flow.validation.report import Fields, Report, kind_of
from orchy.flow.validation.suggestions import Suggestions
from orchy.flow.validation.topology import cycles, reachable

DEFINITION_BYTES_MAX = 4 * 1024 * 1024
ACTIONS_MAX = 10_000
EDGES_MAX = 100_000
#: Ids travel as int32; 0 means no action.
ACTION_ID_MAX = 2**31 - 1
OUTCOME_CHARS_MAX = 256
_CYCLES_REPORTED_MAX = 20
_CYCLE_ENDS_SHOWN = 20


@runtime_checkable
class DeclaresOutcomes(Protocol):
    """A system action that declares its templates and outcomes, so that suspicious ones can be warned of."""

    templates: tuple[str, ...]

    def outcomes(self, action: Action) -> Collection[str] | None:
        """All outcomes that the action can have; None if any text may be one."""
        ...


@attrs.frozen
class Validated:
    """The result of a validation: the workflow, or errors; either may come with warnings."""

    workflow: Workflow | None
    errors: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()


def parse_workflow(
    source: bytes | str | Mapping[str, JSON],
    system_actions: Mapping[str, SystemAction],
    known_actions: Collection[str] | None = None,
) -> Validated:
    """Parse and validate a workflow definition.

    `known_actions` are the names of user actions that workers have registered; None: don't check against them.
    """
    if isinstance(source, bytes | str) and len(source) > DEFINITION_BYTES_MAX:
        return Validated(None, (Problem(f"the definition is larger than {DEFINITION_BYTES_MAX:,} bytes"),))
    value, problems = _read(source)
    if problems:
        return Validated(None, problems)
    report = Report()
    reader = _WorkflowReader(system_actions, known_actions, report)
    workflow = None
    if isinstance(value, dict):
        workflow = reader.workflow(value)
    else:
        report.error(f"a workflow definition must be an object, not {kind_of(value)}", ())
    errors, warnings = report.problems(_text_of(source))
    return Validated(None if errors else workflow, errors, warnings)


def parse_action_definition(source: bytes | str | Mapping[str, JSON]) -> ActionDefinition:
    """Parse and validate an action definition. Raises InvalidInput with all problems; an unknown field is one."""
    value, problems = _read(source)
    definition = None
    if not problems:
        report = Report()
        if isinstance(value, dict):
            definition = _action_definition(Fields(value, (), "an action definition", report))
        else:
            report.error(f"an action definition must be an object, not {kind_of(value)}", ())
        problems, _ = report.problems(_text_of(source))
    if problems or definition is None:
        count = len(problems)
        raise InvalidInput(f"the action definition has {count} problem{'s' if count > 1 else ''}", problems)
    return definition


def _read(source: bytes | str | Mapping[str, JSON]) -> tuple[JSON, tuple[Problem, ...]]:
    if isinstance(source, bytes | str):
        return read_json(source)
    value = dict(source)
    return value, tuple(Problem(message, pointer(where)) for where, message in not_json(value))


def _text_of(source: bytes | str | Mapping[str, JSON]) -> str | None:
    return source.decode() if isinstance(source, bytes) else source if isinstance(source, str) else None


def _name(fields: Fields) -> str | None:
    name = fields.text("name", required=True)
    if name is not None:
        problem = name_problem(name)
        if problem is not None:
            fields.error(f"the name {problem}", "name")
            return None
    return name


_DEFINITION_TYPE = msgspec.inspect.type_info(ActionDefinition)
assert isinstance(_DEFINITION_TYPE, msgspec.inspect.StructType)
_DEFINITION_FIELDS = _DEFINITION_TYPE.fields


def _action_definition(fields: Fields) -> ActionDefinition | None:
    values = {field.name: _definition_field(fields, field) for field in _DEFINITION_FIELDS}
    for unknown in fields.unknown():
        message = f"an action definition has no field {unknown[:NAME_CHARS_MAX]!r}{fields.hint(unknown)}"
        fields.error(message, unknown, at_key=True)
    given = {name: value for name, value in values.items() if value is not None}
    return ActionDefinition(**given) if fields.sound else None


def _definition_field(fields: Fields, field: msgspec.inspect.Field) -> JSON:
    """The value of a field of an ActionDefinition, read by its type; None if it is absent or wrong."""
    kind = field.type
    if isinstance(kind, msgspec.inspect.StrType):
        return _name(fields)
    if isinstance(kind, msgspec.inspect.EnumType):
        assert issubclass(kind.cls, StrEnum)
        return fields.choice(field.name, kind.cls)
    assert isinstance(kind, msgspec.inspect.IntType | msgspec.inspect.FloatType), f"{field.name} has no reader: {kind}"
    assert kind.ge is not None
    assert kind.le is not None
    return fields.number(field.name, kind.ge, kind.le, whole=isinstance(kind, msgspec.inspect.IntType))


class _WorkflowReader:
    """One definition while it is converted from JSON to a Workflow."""

    def __init__(
        self, system_actions: Mapping[str, SystemAction], known_actions: Collection[str] | None, report: Report
    ) -> None:
        self.system_actions = system_actions
        self.declaring = {name: kind for name, kind in system_actions.items() if isinstance(kind, DeclaresOutcomes)}
        self.known_actions = known_actions
        self.report = report
        self.registered: Suggestions | None = None
        self.actions: dict[int, Action] = {}
        self.places: dict[int, Where] = {}
        self.edges: list[tuple[int, int, Where]] = []  # source, target, and where the definition says so

    def workflow(self, source: Mapping[str, JSON]) -> Workflow:
        """The workflow; not to be used if there are errors."""
        fields = Fields(source, (), "a workflow definition", self.report)
        name = _name(fields)
        root = fields.read("rootAction", (int,), required=True)
        on_success = fields.choice("onSuccess", OnEnd)
        on_failure = fields.choice("onFailure", OnEnd)
        actions = fields.read("actions", (list,), required=True)
        self.warn_of_unknown(fields)
        if actions is not None and not 1 <= len(actions) <= ACTIONS_MAX:
            fields.error(f"a workflow has from 1 to {ACTIONS_MAX:,} actions, not {len(actions):,}", "actions")
        elif actions is not None:
            for index, item in enumerate(actions):
                self.action(item, ("actions", index))
            if len(self.edges) > EDGES_MAX:
                fields.error(f"a workflow has at most {EDGES_MAX:,} edges, not {len(self.edges):,}", "actions")
            else:
                self.check_edges(root, fields)
                self.check_references()
        return Workflow(
            name or "", root or 0, self.actions, on_success or OnEnd.NOOP, on_failure or OnEnd.NOOP, source=source
        )

    def warn_of_unknown(self, fields: Fields) -> None:
        for field in fields.unknown():
            message = f"{fields.subject} has no field {field[:NAME_CHARS_MAX]!r}: it is ignored{fields.hint(field)}"
            self.report.warning(message, (*fields.where, field), at_key=True)

    # One action.

    def action(self, source: JSON, where: Where) -> None:
        if not isinstance(source, dict):
            self.report.error(f"an action must be an object, not {kind_of(source)}", where)
            return
        fields = Fields(source, where, "an action", self.report)
        action_id = self.action_id(fields)
        type_ = fields.choice("type", ActionType, required=True)
        name = _name(fields)
        parameters = fields.read("parameters", (dict,))
        next_ = self.next(fields, action_id)
        join = fields.choice("join", JoinMode)
        self.check_expressions(parameters, fields)
        fields.subject = "a user action"
        kind = None
        settings: dict[str, JSON] = {}
        settings_sound = True
        if type_ is ActionType.SYSTEM and name is not None:
            kind = self.system_actions.get(name)
            if kind is None:
                known = ", ".join(sorted(self.system_actions))
                hint = self.report.hint(name, Suggestions(self.system_actions))
                if not hint and name in (self.known_actions or ()):
                    hint = "; workers have one of that name, whose type is 'user'"
                fields.error(f"there is no system action {name!r}; there are {known}{hint}", "name")
            else:
                settings, settings_sound = self.settings(kind, fields)
                if parameters:
                    message = f"{fields.subject} takes no parameters: they are ignored"
                    self.report.warning(message, (*where, "parameters"), at_key=True)
        if type_ is ActionType.USER or kind is not None:
            self.warn_of_unknown(fields)  # the fields of an unknown kind are not known
        if type_ is None or name is None:
            return
        if type_ is ActionType.USER and self.known_actions is not None and name not in self.known_actions:
            self.warn_of_unregistered(name, where)
        action = Action(action_id or 0, type_, name, parameters or {}, next_ or {}, join or JoinMode.ALL, settings)
        if settings_sound:
            self.check_action(action, kind, fields, next_is_there=next_ is not None)
        if action_id is not None:
            self.actions.setdefault(action_id, action)

    def warn_of_unregistered(self, name: str, where: Where) -> None:
        if name in self.system_actions:
            hint = f"; did you mean the system action {name!r}, whose type is 'system'?"
        else:
            self.registered = self.registered or Suggestions(self.known_actions or ())
            hint = self.report.hint(name, self.registered)
        self.report.warning(f"no worker has registered the action {name!r} yet{hint}", (*where, "name"))

    def settings(self, kind: SystemAction, fields: Fields) -> tuple[dict[str, JSON], bool]:
        """The fields that are specific to this kind, and whether their types are right, as its `problems` relies on."""
        fields.subject = f"the system action {kind.name}"
        settings: dict[str, JSON] = {}
        before = self.report.error_count
        for field, declared in kind.fields.items():
            value = fields.read(field, declared.types, required=declared.required)
            if value is not None:
                settings[field] = value
        return settings, self.report.error_count == before

    def check_action(self, action: Action, kind: SystemAction | None, fields: Fields, *, next_is_there: bool) -> None:
        """Report what a kind of action finds wrong with its definition, and outcomes that it can't have."""
        problems = list(kind.problems(action)) if kind is not None else []
        for problem in problems:
            if problem.field != "next" or next_is_there:
                fields.error(problem.message, problem.field if problem.field in fields.source else None)
        possible: Collection[str] | None = None
        if kind is None:
            possible = (DEFAULT_OUTCOME,)
        elif kind.name in self.declaring and not problems:
            possible = self.declaring[kind.name].outcomes(action)
        if possible is None:
            return
        only = " or ".join(repr(outcome) for outcome in possible)
        for outcome in action.next:
            if outcome not in possible:
                message = f"the outcome {outcome!r:.100} can't happen here: only {only:.300} can"
                self.report.warning(message, (*fields.where, "next", outcome), at_key=True)

    def action_id(self, fields: Fields) -> int | None:
        action_id = fields.read("id", (int,), required=True)
        if not isinstance(action_id, int):
            return None
        if not 1 <= action_id <= ACTION_ID_MAX:
            fields.error(f"an action's id must be from 1 to {ACTION_ID_MAX:,}, not {action_id!r:.40}", "id")
        if action_id in self.places:
            fields.error(f"the id {action_id} is that of {pointer(self.places[action_id])} already", "id")
        else:
            self.places[action_id] = fields.where
        return action_id

    def next(self, fields: Fields, source: int | None) -> dict[str, tuple[int, ...]] | None:
        """What follows, by outcome; None if that is not an object."""
        outcomes: dict[str, tuple[int, ...]] = {}
        given = fields.read("next", (dict,))
        if given is None:
            return None if fields.source.get("next") is not None else outcomes
        for outcome, targets in given.items():
            where = (*fields.where, "next", outcome)
            if len(outcome) > OUTCOME_CHARS_MAX:
                self.report.error(f"an outcome is longer than {OUTCOME_CHARS_MAX} characters", where, at_key=True)
            if not isinstance(targets, list):
                message = f"what follows an outcome must be a list of action ids, not {kind_of(targets)}"
                self.report.error(message, where)
                continue
            followers: dict[int, None] = {}
            for index, target in enumerate(targets):
                if not isinstance(target, int) or isinstance(target, bool):
                    message = f"an action's id must be a whole number, not {kind_of(target)}"
                    self.report.error(message, (*where, index))
                elif target in followers:
                    self.report.warning(f"action {target} follows this outcome already", (*where, index))
                else:
                    followers[target] = None
                    if source is not None:
                        self.edges.append((source, target, (*where, index)))
            outcomes[outcome] = tuple(followers)
        return outcomes

    def check_expressions(self, parameters: JSON, fields: Fields) -> None:
        for error in expression_problems(parameters):
            self.report.error(f"the expression {error}", (*fields.where, "parameters", *error.where))

    # All actions together.

    def check_edges(self, root: int | None, fields: Fields) -> None:
        """Check that edges lead to existing actions, form no cycle, and lead from the root to every action."""
        followers: dict[int, list[int]] = {action_id: [] for action_id in self.places}
        edge_places: dict[tuple[int, int], Where] = {}
        for source, target, where in self.edges:
            if target not in followers:
                self.report.error(f"there is no action {target!r:.40}", where)
            else:
                followers[source].append(target)
                edge_places.setdefault((source, target), where)
        for cycle in islice(cycles(followers), _CYCLES_REPORTED_MAX):
            self.report.error(f"the actions form a cycle: {_shown(cycle)}", edge_places[cycle[-2], cycle[-1]])
        if root is None:
            return
        if root not in followers:
            fields.error(f"there is no action {root!r:.40}", "rootAction")
            return
        reached = reachable(followers, root)
        for action_id, where in self.places.items():
            if action_id not in reached:
                self.report.error(f"nothing leads from the root to action {action_id}", where)

    def check_references(self) -> None:
        """Warn of paths that can never find anything."""
        ids = {str(action_id) for action_id in self.places}
        for action in self.actions.values():
            values: dict[str, JSON] = {"parameters": action.parameters}
            if action.type is ActionType.SYSTEM:
                kind = self.declaring.get(action.name)
                values = {name: action.settings.get(name) for name in kind.templates} if kind is not None else {}
            for token, where in tokens_in(values):
                problem = _reference_problem(token.path.steps, ids)
                if problem is not None:
                    message = f"{token.text!r:.100} finds nothing: {problem}"
                    self.report.warning(message, (*self.places[action.id], *where))
            for lookalike, where in lookalikes_in(values):
                self.report.warning(str(lookalike), (*self.places[action.id], *where))


def _reference_problem(steps: Steps, ids: Collection[str]) -> str | None:
    if not steps or steps[0] == "input":
        return None
    first, *rest = steps
    if first not in ids:
        return f"{first!r:.40} is neither 'input' nor the id of an action"
    return "an action has only 'output'" if rest and rest[0] != "output" else None


def _shown(cycle: list[int]) -> str:
    """A cycle as text; the middle of a long one is left out."""
    if len(cycle) <= 2 * _CYCLE_ENDS_SHOWN:
        return " -> ".join(map(str, cycle))
    left_out = f"({len(cycle) - 2 * _CYCLE_ENDS_SHOWN} more)"
    return " -> ".join([*map(str, cycle[:_CYCLE_ENDS_SHOWN]), left_out, *map(str, cycle[-_CYCLE_ENDS_SHOWN:])])
