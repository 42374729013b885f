"""The shape of the house: imports point down, what decides is pure, files stay small."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "orchy"
FILES = sorted(path for path in SOURCE.rglob("*.py") if "generated" not in path.parts)

# What each part may import of Orchy, beside itself. The first prefix that fits a module is its part.
MAY_IMPORT = {
    "orchy.errors": [],
    "orchy.telemetry.logs": [],
    "orchy.runtime.tasks": [],
    "orchy.telemetry.unexpected": [],
    "orchy.runtime.sockets": [],
    "orchy.runtime.open_files": [],
    "orchy.ring": [],
    "orchy.swim": ["errors"],
    "orchy.server.config": ["errors"],
    "orchy.telemetry.metrics": [],
    "orchy.flow": ["errors"],
    "orchy.actions.javascript": ["flow", "errors", "tasks"],
    "orchy.actions": ["flow", "errors"],
    "orchy.store.limits": ["errors"],
    "orchy.store.definitions": ["store.limits"],
    "orchy.store.quarantine": [],
    "orchy.store.ports": ["store.definitions", "store.quarantine", "flow", "errors"],
    "orchy.store.memory.definitions": ["store.base", "store.limits"],
    "orchy.store.memory.partition": ["store.base", "store.quarantine", "flow"],
    "orchy.store.memory.quarantine": ["store.memory_definitions", "store.base", "store.quarantine"],
    "orchy.store.memory.store": ["store.memory_quarantine", "store.memory_partition", "store.base", "flow", "errors"],
    "orchy.store.redis": ["store.base", "store.limits", "store.quarantine", "flow", "errors", "sockets", "tasks"],
    "orchy.store": [],
    "orchy.engine.transition": ["store.base", "flow", "errors"],
    "orchy.engine.flow_cache": ["store.base", "store.quarantine", "flow"],
    "orchy.engine.scripts": ["actions.javascript.port", "flow", "errors"],
    "orchy.engine.catalog": [
        "scripts", "actions.javascript.port", "store.base", "store.limits", "flow", "errors", "tasks",
    ],
    "orchy.views.queries": [
        "catalog", "flowcache", "transition", "store.base", "store.quarantine", "flow", "errors", "tasks",
    ],
    "orchy.engine.event_names": ["flow", "errors"],
    "orchy.engine.ports": ["store.base"],
    "orchy.engine.mailbox": ["flowcache", "store.base", "flow", "errors"],
    "orchy.engine.starting": ["flow", "errors"],
    "orchy.engine.hand_off": ["ports", "store.base"],
    "orchy.engine.commits": ["handing", "mailbox", "ports", "flowcache", "transition", "store.base", "flow", "errors"],
    "orchy.engine.quarantine": ["store.quarantine", "unforeseen", "flow", "errors"],
    "orchy.engine.stepping": ["transition", "actions.javascript.port", "flow"],
    "orchy.engine.mover": [
        "commits", "stepping", "quarantine", "mailbox", "starting", "ports", "queries", "catalog", "flowcache",
        "transition", "store.base", "actions.javascript.port", "unforeseen", "flow", "errors", "tasks",
    ],
    "orchy.engine.orchestrator": [
        "eventnames", "mailbox", "mover", "starting", "ports", "queries", "catalog", "transition", "store.base",
        "actions.javascript.port", "flow", "errors", "tasks",
    ],
    "orchy.engine.starts": ["orchestrator", "starting", "catalog", "flow", "errors", "tasks"],
    "orchy.dispatch.demand": ["store.base"],
    "orchy.dispatch.dispatcher": ["demand", "store.base", "errors"],
    "orchy.dispatch.attempt_leases": ["store.base", "flow", "tasks"],
    "orchy.engine.lost_attempts": ["attempts", "orchestrator", "store.base", "flow"],
    "orchy.dispatch.offers": ["dispatch"],
    "orchy.partition": ["store.base", "unforeseen", "flow", "errors"],
    "orchy.cluster.cluster": ["partition", "unforeseen", "store.base", "flow", "errors"],
    "orchy.cluster.registry": ["store.base", "unforeseen", "errors"],
    "orchy.cluster.membership": ["cluster", "registry", "store.base", "swim", "errors"],
    "orchy.server.opening": ["joining", "membership", "partition", "config", "store.base", "store.redis", "swim", "errors"],
    "orchy.cluster.joining": ["membership", "config", "store.redis", "swim", "errors"],
    "orchy.rpc": [
        "orchestrator", "catalog", "dispatch", "demand", "attempts", "lost", "store.base", "unforeseen", "flow",
        "errors", "sockets", "tasks",
    ],
    "orchy.rest": [
        "starts", "starting", "orchestrator", "queries", "catalog", "flow", "errors", "sockets", "openfiles",
    ],
    "orchy.worker": [
        "rpc.channel", "rpc.framing", "rpc.values", "rpc.generated", "flow.definition", "errors", "tasks",
    ],
    "orchy.commands.demo": ["worker", "tasks"],
    "orchy.commands.verify": ["transition", "store.redis", "store.base", "flow", "ring", "errors"],
}  # fmt: skip
# The composition root and the command line may import all.
ROOTS = ("orchy.server.node", "orchy.__main__", "orchy")


def module_of(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def part_of(module: str) -> str:
    return next(part for part in MAY_IMPORT if module == part or module.startswith(f"{part}."))


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return {name for name in found if name.startswith("orchy.")}


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_imports_point_down(path):
    module = module_of(path)
    if module in ROOTS:
        return
    part = part_of(module)
    allowed = [part, *(f"orchy.{name}" for name in MAY_IMPORT[part])]
    for imported in imports_of(path) - {"orchy.__version__"}:
        assert any(imported == name or imported.startswith(f"{name}.") for name in allowed), (
            f"{module} imports {imported}, which is not below it"
        )


@pytest.mark.parametrize(
    "package", ["orchy.flow.machine", "orchy.flow.validation.definitions", "orchy.ring", "orchy.actions"]
)
def test_what_decides_can_be_imported_without_what_does(package):
    code = (
        "import sys\n"
        "for name in ('trio', 'redis', 'hiredis', 'quart', 'quart_trio', 'purerpc', 'h2', 'hypercorn'):\n"
        "    sys.modules[name] = None\n"
        f"import {package}\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_files_stay_small_and_say_what_they_are_for(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 410, "a file of more than 400 lines holds two ideas"
    assert ast.get_docstring(ast.parse(text)), "a file says at its top what it is for"


def test_there_are_no_drawers_for_everything():
    for path in FILES:
        assert not {"utils", "helpers", "manager", "common", "misc"} & {path.stem, *path.parts}


def test_links_in_the_documentation_lead_somewhere():
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
            if "://" not in link:
                assert (page.parent / link).exists(), f"{page.name} links to {link}"


def test_ci_runs_the_test_command_of_the_readme():
    command = re.search(r"## Run the tests\n\n```\n(.*?)\n```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert command is not None
    assert "nox -s tests" in command[1]
    assert "README.md" in (ROOT / ".ci" / "run").read_text()


def test_the_diagrams_are_those_of_the_transition_tables():
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "draw_diagrams.py"), "--check"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
