"""Has the scripts of a definition parsed by the javascript engine before the definition is saved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from orchy.actions.javascript.port import ScriptChecker, ScriptProblem
from orchy.errors import Problem
from orchy.flow.definition import JSON, ActionType
from orchy.flow.json.scan import Where
from orchy.flow.json.text import line_and_column, locate, offset_in_string, pointer
from orchy.flow.system import SystemAction

#: How many different scripts of one definition are parsed.
SCRIPTS_MAX = 500


async def check_scripts(
    source: Mapping[str, JSON], text: str, system_actions: Mapping[str, SystemAction], checker: ScriptChecker
) -> tuple[list[Problem], list[Problem]]:
    """Errors and warnings for the scripts of an otherwise valid definition. Raises Overloaded."""
    places: dict[str, list[Where]] = {}
    for script, where in _scripts(source, system_actions):
        places.setdefault(script, []).append(where)
    problems: dict[Where, tuple[ScriptProblem, str]] = {}
    for script, wheres in list(places.items())[:SCRIPTS_MAX]:
        problem = await checker.check(script)
        if problem is not None:
            problems |= dict.fromkeys(wheres, (problem, script))
    found = locate(text, set(problems)) if problems else {}
    errors = [_problem(text, where, found[where].value, *problems[where]) for where in sorted(problems)]
    warnings = []
    if len(places) > SCRIPTS_MAX:
        left = len(places) - SCRIPTS_MAX
        warnings.append(Problem(f"{left} of the definition's {len(places)} different scripts were not parsed"))
    return errors, warnings


def _scripts(source: Mapping[str, JSON], system_actions: Mapping[str, SystemAction]) -> Iterator[tuple[str, Where]]:
    for index, action in enumerate(source["actions"]):
        if action["type"].casefold() == ActionType.SYSTEM.casefold():
            for field in getattr(system_actions[action["name"]], "scripts", ()):
                yield action[field], ("actions", index, field)


def _problem(text: str, where: Where, string_at: int, problem: ScriptProblem, script: str) -> Problem:
    message, at = f"the script can't be parsed: {problem.message}", string_at
    if problem.line is not None and problem.column is not None:
        message += f" (line {problem.line}, column {problem.column} of the script)"
        before = script.split("\n")[: problem.line - 1]
        at = offset_in_string(text, string_at, sum(map(len, before)) + len(before) + problem.column - 1)
    return Problem(message, pointer(where), *line_and_column(text, at))
