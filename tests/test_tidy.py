"""Nothing is left over: each public name of the source is used by the source or the benchmarks, or says why not."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "orchy"
FILES = sorted(path for path in SOURCE.rglob("*.py") if "generated" not in path.parts)

# Public names that no other code here uses, each with its reason.
STAY = {
    "MemoryStore": "the reference that the stores' one suite and the simulation run on",
    "firing": "what the simulation looks at to know that a timer loop is idle",
    "main": "the entry point of pyproject.toml",
    "sees": "the simulator's view of one member, used by its tests",
    "why_down": "what the errors of a Redis connection are made of, looked at by its tests",
}


def _uses() -> Counter[str]:
    """How often each name occurs, definitions left out."""
    found: Counter[str] = Counter()
    for path in [*FILES, *(ROOT / "bench").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Name(name, ast.Load()) | ast.Attribute(attr=name):
                    found[name] += 1
                case ast.ImportFrom(names=aliases) | ast.Import(names=aliases) if path.name != "__init__.py":
                    found.update(alias.name for alias in aliases)
                case ast.Constant(str(text)) if text.isidentifier():  # by getattr, or in an __all__
                    found[text] += 1
    return found


def _public(tree: ast.Module) -> Iterator[str]:
    """Functions, classes and constants of a module, and the methods of classes that have no base."""
    for node in tree.body:
        match node:
            case ast.FunctionDef(name=name, decorator_list=[]) | ast.AsyncFunctionDef(name=name, decorator_list=[]):
                yield name
            case ast.ClassDef(name=name, bases=bases, body=body):
                yield name
                if not bases:
                    methods = (one for one in body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef))
                    yield from (one.name for one in methods)
            case ast.Assign(targets=[ast.Name(name)]) | ast.AnnAssign(target=ast.Name(name)):
                yield name


USES = _uses()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_public_names_are_used(path: Path) -> None:
    for name in _public(ast.parse(path.read_text())):
        if not name.startswith("_"):
            assert USES[name] or name in STAY, f"nobody uses {name}"


def test_what_stays_is_there() -> None:
    names = {name for path in FILES for name in _public(ast.parse(path.read_text()))}
    assert set(STAY) <= names, f"gone: {set(STAY) - names}"
    assert not [name for name in STAY if USES[name] and name != "main"], "these are used by now"
