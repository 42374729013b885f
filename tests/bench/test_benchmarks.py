"""The benchmarks stay runnable: each module imports, the command line answers, and a piece gives its figures."""

from __future__ import annotations

import ast
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench.harness import places
from bench.harness.against import Compared, interval, start_command
from bench.harness.options import Options
from bench.pieces import PIECES

ROOT = Path(__file__).parents[2]
# The Python of another environment runs this one: Celery is not installed beside Orchy.
NEEDS_CELERY = "bench.compare.celery_process"
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "bench").rglob("*.py")
)


def run_module(*arguments, seconds=60):
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False
    )


@pytest.mark.parametrize("name", [name for name in MODULES if name != NEEDS_CELERY])
def test_each_module_imports(name):
    importlib.import_module(name)


def test_modules_import_each_other_by_the_packages_name():
    """A bare import works only from the folder that a script was started in."""
    names = {name.rpartition(".")[2] for name in MODULES} - {"bench"}
    for path in (ROOT / "bench").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            imported = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                imported.append(node.module)
            assert not names & {name.split(".")[0] for name in imported}, f"{path} imports {imported}"


def test_the_command_line_lists_the_pieces():
    done = run_module("bench", "--help")
    assert done.returncode == 0, done.stderr
    listed = re.findall(r"^  ([a-z-]+)  +\S", done.stdout.split("pieces, in this order:")[1], re.MULTILINE)
    assert listed == list(PIECES)


@pytest.mark.parametrize("theme", ["gossip", "ring"])
def test_the_command_lines_of_gossip_and_ring_answer(theme):
    done = run_module(f"bench.{theme}", "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: python -m bench.{theme} ")


def test_an_unknown_piece_is_refused_with_the_known_ones():
    done = run_module("bench", "burst", "bursts")
    assert done.returncode == 2
    assert "there is no benchmark bursts; there are three, burst," in done.stderr


def test_files_of_the_benchmarks_are_where_the_package_is():
    assert places.ROOT == ROOT
    assert places.DOCS.is_dir()


def test_the_interval_holds_the_median_with_95_percent():
    ratios = [1.0 + number / 100 for number in range(9)]
    assert interval(ratios) == (1.01, 1.07)  # the 2nd and the 8th of nine: 96.1 %
    assert interval([1.2, 1.0]) == (1.0, 1.2)


@pytest.mark.parametrize(
    ("ratios", "verdict"),
    [
        ([1.0] * 9, ""),
        ([1.06] * 9, "differs by more than 5%"),
        ([0.9] * 9, "differs by more than 5%"),
        ([0.9, 1.0, 1.1], "too wide to say within 5%"),
    ],
)
def test_a_difference_is_one_when_all_of_the_interval_is_beyond(ratios, verdict):
    assert Compared("three, p50", "ms", 5.0, 5.0, ratios).line(0.05).endswith(verdict or ")")


def test_a_tree_is_started_the_way_that_its_version_knows(tmp_path):
    assert start_command(ROOT, "py") == ["py", "-m", "bench", "--no-pages"]
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "run.py").touch()
    assert start_command(tmp_path, "py") == ["py", str(tmp_path / "bench" / "run.py")]


def test_a_piece_without_a_server_gives_its_figures():
    measured = list(PIECES["step"].run(Options(quick=True)))
    assert {"step of three", "step of three with its commit"} <= {getattr(one, "what", "") for one in measured}


@pytest.mark.real
def test_a_piece_runs_on_real_processes(tmp_path):
    """*three*, with a node, a worker and a Redis of its own."""
    results = tmp_path / "results.json"
    done = run_module("bench", "three", "--quick", "--no-pages", "--results", str(results), seconds=180)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^three, p50 +[\d.]+ ms +<= 5 ", done.stdout, re.MULTILINE)
    kept = json.loads(results.read_text())["benchmarks"]["three"]
    assert kept["quick"]
    assert [one["what"] for one in kept["figures"]][:2] == ["three, p50", "three, p99"]
