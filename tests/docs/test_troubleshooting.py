"""docs/troubleshooting.md quotes the sentences of the source, and has each one that an operator may meet."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import attrs
import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "orchy"
PAGE = ROOT / "docs" / "troubleshooting.md"

#: Stands for what the program puts into a sentence.
HOLE = "\0"
#: `can't listen on <host>:<port>` in bold: an entry. What is in angle brackets is put in by the program.
ENTRY = re.compile(r"^\*\*`(.+?)`\*\*$", re.MULTILINE)
PLACEHOLDER = re.compile(r"<[a-z][a-z ]*>")
WORD = re.compile(r"[a-z]{2,}")
FORMAT = re.compile(r"%\.?\d*[sdrgf]")
#: Calls whose text is a line of the log that asks for a look, or the end of a start.
LOUD = re.compile(
    r"log\.(warning|error|critical|exception)|StartupError|ConfigurationError|(self\._)?notice\.warn|self\._log_seldom"
)
# Sentences of which the page need not speak, each with its reason.
NOT_TOLD = {
    f"{HOLE}": "another error's own text",
    f"{HOLE} {HOLE} failed": "REST's log of an error in Orchy; the answer of 500 is told",
    f"the application failed for {HOLE}": "the same",
}


@attrs.frozen
class Sentence:
    """A text of the source; `told_to_operators`: it ends a start, or is a line of the log that asks for a look."""

    place: str
    text: str
    told_to_operators: bool


def template(node: ast.AST) -> str | None:
    """A string expression as text with holes; None for what is no string."""
    match node:
        case ast.Constant(str(text)):
            return FORMAT.sub(HOLE, text)
        case ast.JoinedStr(parts):
            return "".join(template(part) or HOLE for part in parts)
        case ast.FormattedValue():
            return HOLE
        case ast.BinOp(left, ast.Add(), right):
            texts = template(left), template(right)
            return None if texts == (None, None) else "".join(text or HOLE for text in texts)
    return None


def sentences_of(path: Path) -> Iterator[Sentence]:
    tree = ast.parse(path.read_text("utf-8"))
    loud: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and LOUD.fullmatch(ast.unparse(node.func)):
            loud |= {id(part) for argument in node.args for part in ast.walk(argument)}
    documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    inner = {id(part) for node in ast.walk(tree) if template(node) for part in ast.walk(node) if part is not node}
    skipped = inner | documentation
    for node in ast.walk(tree):
        text = template(node)
        if text and id(node) not in skipped:
            is_told = id(node) in loud and len(WORD.findall(text)) > 1
            yield Sentence(f"{path.relative_to(ROOT)}:{node.lineno}", text, is_told)


@cache
def sentences() -> tuple[Sentence, ...]:
    paths = [path for path in sorted(SOURCE.rglob("*.py")) if not {"generated", "demo", "verify"} & set(path.parts)]
    return tuple(sentence for path in paths for sentence in sentences_of(path))


def entries() -> list[str]:
    return ENTRY.findall(PAGE.read_text("utf-8"))


@cache
def parts_of(entry: str) -> tuple[list[str], re.Pattern[str]]:
    parts = PLACEHOLDER.split(entry)
    return parts, re.compile(".*?".join(map(re.escape, parts)), re.DOTALL)


def quotes(entry: str, text: str) -> bool:
    """Whether an entry quotes a sentence of the source, or a part of it."""
    parts, pattern = parts_of(entry)
    return all(part in text for part in parts) and pattern.search(text) is not None


def test_the_page_quotes_enough_sentences() -> None:
    assert len(entries()) > 80
    assert len(set(entries())) == len(entries())


@pytest.mark.parametrize("entry", entries())
def test_each_sentence_on_the_page_is_still_in_the_source(entry: str) -> None:
    assert any(quotes(entry, sentence.text) for sentence in sentences()), f"nothing says: {entry}"


@pytest.mark.parametrize("entry", entries())
def test_a_quoted_sentence_is_more_than_its_placeholders(entry: str) -> None:
    assert len(PLACEHOLDER.sub("", entry)) >= 12


def test_each_sentence_that_an_operator_may_meet_is_on_the_page() -> None:
    left_out = [
        f"{sentence.place}: {sentence.text.replace(HOLE, '<...>')}"
        for sentence in sentences()
        if sentence.told_to_operators
        and sentence.text not in NOT_TOLD
        and not any(quotes(entry, sentence.text) for entry in entries())
    ]
    assert not left_out, "docs/troubleshooting.md does not tell:\n" + "\n".join(left_out)


def test_what_need_not_be_told_is_still_there() -> None:
    texts = {sentence.text for sentence in sentences()}
    assert NOT_TOLD.keys() <= texts
