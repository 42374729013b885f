"""What the pages for newcomers list is all that there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orchy.actions import SYSTEM_ACTIONS
from orchy.flow.effects import RecordType
from orchy.flow.execution import State

DOCS = Path(__file__).parents[2] / "docs"
WORDS = [
    "workflow",
    "version",
    "flow",
    "action",
    "attempt",
    "fork",
    "join",
    "node",
    "partition",
    "ring",
    "worker",
    "store",
]
GLOSSARY = "## Glossary"


def text(page: str) -> str:
    return (DOCS / page).read_text("utf-8")


def glossary() -> list[tuple[str, str]]:
    rows = re.findall(r"^\| (.+?) \| (.+) \|$", text("concepts.md").partition(GLOSSARY)[2], re.MULTILINE)
    return [(term, meaning) for term, meaning in rows if term not in ("term", "---")]


def camel(kind: RecordType) -> str:
    """As REST shows it."""
    first, *rest = kind.name.lower().split("_")
    return first + "".join(map(str.capitalize, rest))


def test_the_glossary_is_in_the_order_of_the_alphabet_and_has_each_term_once() -> None:
    terms = [term for term, _ in glossary()]
    assert terms == sorted(terms, key=str.lower)
    assert len(set(terms)) == len(terms)


@pytest.mark.parametrize("word", WORDS)
def test_each_word_of_the_picture_is_in_the_glossary(word: str) -> None:
    assert word in dict(glossary())


def test_concepts_have_each_state_of_a_flow() -> None:
    rows = re.findall(r"^\| (`[A-Z_`, ]+`) \|", text("concepts.md"), re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == set(State)


def test_the_page_on_waiting_flows_has_each_state_of_a_flow() -> None:
    shown = set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)?\b", text("how-to/why-a-flow-waits.md")))
    assert set(State) <= shown


@pytest.mark.parametrize("action", SYSTEM_ACTIONS)
def test_concepts_name_each_system_action(action: str) -> None:
    row = dict(glossary())["system action"]
    assert f"`{action}`" in row


def test_the_entries_of_a_history_that_the_pages_name_are_entries_of_a_history() -> None:
    table = text("how-to/why-a-flow-waits.md").partition("| last entry |")[2].partition("\n\n")[0]
    cells = [row.split("|")[1] for row in table.splitlines() if row.startswith("|")]
    named = {name for cell in cells for name in re.findall(r"`([a-z][A-Za-z]+)`", cell)} - {*SYSTEM_ACTIONS}
    assert len(named) > 6
    assert named <= {camel(kind) for kind in RecordType}


def test_the_alert_on_failed_flows_asks_for_a_state_that_there_is() -> None:
    assert set(re.findall(r'state="(\w+)"', text("how-to/alert.md"))) <= set(State)
