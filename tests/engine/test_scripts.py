"""A definition whose scripts can't be parsed is refused, with their places in the definition."""

from __future__ import annotations

import json

import pytest

from orchy.actions import SYSTEM_ACTIONS
from orchy.actions.javascript.port import ScriptProblem
from orchy.engine.catalog import Catalog
from orchy.engine.scripts import SCRIPTS_MAX
from orchy.errors import InvalidInput, Overloaded


class Checker:
    """Reports `bad` in a script, at its place."""

    def __init__(self):
        self.checked = []

    async def check(self, expression):
        self.checked.append(expression)
        if expression == "busy":
            raise Overloaded("no javascript worker was free")
        at = expression.find("bad")
        if at < 0:
            return None
        before = expression[:at]
        return ScriptProblem("SyntaxError: bad", before.count("\n") + 1, at - before.rfind("\n"))


@pytest.fixture
def checker():
    return Checker()


@pytest.fixture
def catalog(store, checker):
    return Catalog(store, SYSTEM_ACTIONS, checker=checker)


def definition(*scripts, kind="system"):
    actions = [
        {"id": number, "type": kind, "name": "javascript", "expression": script, "next": {"default": [number + 1]}}
        for number, script in enumerate(scripts, 1)
    ]
    actions.append({"id": len(scripts) + 1, "type": "user", "name": "a"})
    return {"name": "w", "rootAction": 1, "actions": actions}


async def test_a_script_that_is_none_is_an_error_with_its_place_in_both_texts(autojump_clock, catalog):
    text = json.dumps(definition("$.x = 1", "$.a = \"\u00e9\";\n$.b = '\U0001f600' + bad"), indent=1)
    with pytest.raises(InvalidInput) as raised:
        await catalog.save_workflow(text.encode())
    (problem,) = raised.value.problems
    assert problem.pointer == "/actions/1/expression"
    assert problem.message == "the script can't be parsed: SyntaxError: bad (line 2, column 13 of the script)"
    line = text.split("\n")[problem.line - 1]
    assert line[problem.column - 1 :].startswith("bad")
    errors, _ = await catalog.validate_workflow(text.encode())
    assert errors == raised.value.problems


async def test_a_repeated_script_is_parsed_once_and_reported_at_each_place(autojump_clock, catalog, checker):
    errors, _ = await catalog.validate_workflow(json.dumps(definition("bad", "good", "bad", kind="SYSTEM")).encode())
    assert [error.pointer for error in errors] == ["/actions/0/expression", "/actions/2/expression"]
    assert checker.checked == ["bad", "good"]


async def test_other_problems_of_a_definition_are_reported_first(autojump_clock, catalog, checker):
    errors, _ = await catalog.validate_workflow(json.dumps({**definition("bad"), "rootAction": 9}).encode())
    assert "rootAction" in errors[0].pointer
    assert checker.checked == []


async def test_when_no_worker_is_free_nothing_is_saved(autojump_clock, catalog):
    with pytest.raises(Overloaded):
        await catalog.save_workflow(json.dumps(definition("busy")).encode())
    assert await catalog.workflows() == []


async def test_more_scripts_than_are_parsed_are_a_warning(autojump_clock, catalog, checker):
    scripts = [f"$.x = {number}" for number in range(SCRIPTS_MAX + 2)]
    errors, warnings = await catalog.validate_workflow(json.dumps(definition(*scripts)).encode())
    assert errors == ()
    assert "2 of the definition's 502 different scripts were not parsed" in [warning.message for warning in warnings]
    assert len(checker.checked) == SCRIPTS_MAX


async def test_a_problem_without_a_place_is_reported_at_the_script(autojump_clock, store):
    class Placeless:
        async def check(self, expression):
            return ScriptProblem("it can't be parsed: too deep")

    catalog = Catalog(store, SYSTEM_ACTIONS, checker=Placeless())
    text = json.dumps(definition("$"))
    ((problem,), _) = await catalog.validate_workflow(text.encode())
    assert text[problem.column - 1 :].startswith('"$"')
