"""Scripts and keys of the store on Redis: none is unused, and docs/storage.md names each of them and no other."""

from __future__ import annotations

import inspect
import re
from importlib.resources import files

import pytest

from orchy.store.redis import scripts
from orchy.store.redis.client import Script
from orchy.store.redis.keys import Keys
from tests.store.conftest import STORAGE_PAGE

REDIS = files("orchy.store.redis")
LUA = REDIS / "lua"
SCRIPTS = {path.name.removesuffix(".lua"): path.read_text() for path in LUA.iterdir() if path.name.endswith(".lua")}
INCLUDES = {path.name.removesuffix(".lua"): path.read_text() for path in (LUA / "includes").iterdir()}
PAGE = STORAGE_PAGE.read_text()
#: What a key's name continues with, in the placeholders of the documents.
PLACEHOLDERS = {"partition": 0, "flow_id": "<flowId>", "name": "<name>"}


def first_cells(heading: str) -> list[str]:
    """The first cell of each row of the table that has this heading."""
    (table,) = re.findall(rf"^\| {re.escape(heading)} \|.*\n\|[ -|]*\n((?:\|.*\n)*)", PAGE, re.MULTILINE)
    return [row.split("|")[1].strip() for row in table.splitlines()]


def included_by(script: str) -> list[str]:
    return re.findall(r'^--- @include "(\w+)"$', SCRIPTS[script], re.MULTILINE)


def test_each_script_is_loaded_and_called():
    loaded = {value.name: name for name, value in vars(scripts).items() if isinstance(value, Script)}
    assert set(loaded) == set(SCRIPTS)
    callers = "".join(path.read_text() for path in REDIS.iterdir() if path.name.endswith(".py"))
    for constant in loaded.values():
        assert re.search(rf"\bscripts\.{constant}\b", callers), f"nothing calls the script {constant}"


@pytest.mark.parametrize("script", sorted(SCRIPTS))
def test_a_script_begins_with_its_name_and_lists_its_keys_and_answer(script):
    head = SCRIPTS[script].partition("\nlocal ")[0]
    assert head.startswith(f"-- {script}: ")
    assert re.search(r"^-- KEYS", head, re.MULTILINE)
    assert re.search(r"^-- returns", head, re.MULTILINE)


@pytest.mark.parametrize("script", sorted(SCRIPTS))
def test_a_script_calls_something_of_each_file_that_it_includes(script):
    for include in included_by(script):
        functions = re.findall(r"^local function (\w+)", INCLUDES[include], re.MULTILINE)
        called = [name for name in functions if re.search(rf"\b{name}\(", SCRIPTS[script])]
        assert called, f"{script} includes {include} for nothing"


def test_each_function_of_an_included_file_is_called():
    used = {include for script in SCRIPTS for include in included_by(script)}
    assert used == set(INCLUDES)
    everything = "\n".join([*SCRIPTS.values(), *INCLUDES.values()])
    for text in INCLUDES.values():
        for name in re.findall(r"^local function (\w+)", text, re.MULTILINE):
            assert len(re.findall(rf"\b{name}\(", everything)) > 1, f"nothing calls {name}"


def test_the_documents_name_each_script():
    assert sorted(name for cell in first_cells("script") for name in cell.split(", ")) == sorted(SCRIPTS)


def test_the_documents_name_each_key():
    documented = {cell.strip("`") for cell in first_cells("key without partition")}
    documented |= {f"{{namespace:0}}:{cell.strip('`')}" for cell in first_cells("key, after `{namespace:p}:`")}
    keys = Keys("namespace")
    made = set()
    for name, method in inspect.getmembers(keys, inspect.ismethod):
        if not name.startswith("_") and name != "partition":
            arguments = [PLACEHOLDERS[parameter] for parameter in inspect.signature(method).parameters]
            made.add(method(*arguments).decode())
    assert made <= documented
    beginnings = {key.partition("<")[0] for key in documented}
    ours = {key.partition("<")[0] for key in made}
    for script in [*SCRIPTS.values(), *INCLUDES.values()]:
        ours |= {f"{{namespace:0}}:{key}" for key in re.findall(r"(?:prefix|KEYS\[1\]) \.\. '(\w+:?)", script)}
    ours.remove("{namespace:0}:rights")  # gone before its script ends
    assert ours == beginnings
