"""docs/worker-api.md is made of the docstrings of what users of the worker library see."""

from __future__ import annotations

import importlib.util
import inspect
from pathlib import Path

import pytest

import orchy.worker

SCRIPT = Path(__file__).parents[2] / "docs" / "write_worker_api.py"


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location("write_worker_api", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_that_of_the_docstrings(script, capsys):
    assert script.main(["--check"]) == 0, capsys.readouterr().err


def test_the_page_has_all_that_is_public(script):
    page = script.write()
    for name in orchy.worker.__all__:
        assert f"\n## {name}\n" in page
        for member, value in vars(getattr(orchy.worker, name)).items():
            if not member.startswith("_") and (inspect.isfunction(value) or isinstance(value, property)):
                assert f"\n### {name}.{member}\n" in page


@pytest.mark.parametrize(
    ("docstring", "said"),
    [
        (None, "has no docstring"),
        ("Purpose.", "describes"),
        ("Purpose.\n\n* `one`: first.\n* `two`: second.\n* `three`: third.", "describes"),
        ("Purpose.\n\n* one: first.\n* `two`: second.", "does not begin with a name"),
    ],
)
def test_an_argument_that_is_not_described_is_an_error(script, monkeypatch, capsys, docstring, said):
    class Documented:
        def __init__(self, one: int, two: int = 2) -> None:
            pass

    Documented.__doc__ = docstring
    monkeypatch.setattr(orchy.worker, "Documented", Documented, raising=False)
    monkeypatch.setattr(orchy.worker, "__all__", ["Documented"])
    assert script.main(["--check"]) == 1
    assert said in capsys.readouterr().err


def test_a_changed_docstring_makes_the_page_stale(script, monkeypatch, capsys):
    monkeypatch.setattr(orchy.worker.Worker.stop, "__doc__", "Stop.")
    assert script.main(["--check"]) == 1
    assert "stale" in capsys.readouterr().err
