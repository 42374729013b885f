"""The shape of the house: imports point down, what decides is pure, files stay small."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from orchy.flow.validation.topology import cycles

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "orchy"
FILES = sorted(path for path in SOURCE.rglob("*.py") if "generated" not in path.parts)

# What each folder may import of Orchy, beside itself; from the ground up, so that no arrow points up.
MAY_IMPORT = {
    "errors": [],
    "addresses": [],
    "runtime": ["errors"],
    "telemetry": ["runtime"],
    "ring": [],
    "swim": ["errors"],
    "flow": ["errors"],
    "actions": ["flow", "errors", "runtime"],
    "store": ["flow", "errors", "runtime"],
    "dispatch": ["store", "flow", "errors", "runtime"],
    "engine": ["dispatch", "store", "actions", "flow", "errors", "runtime", "telemetry"],
    "partition": ["store", "flow", "errors", "telemetry"],
    "views": ["engine", "store", "flow", "errors", "runtime"],
    "cluster": ["partition", "store", "flow", "swim", "addresses", "errors", "runtime", "telemetry"],
    "rpc": ["engine", "dispatch", "store", "flow", "errors", "runtime", "telemetry"],
    "rest": ["views", "engine", "flow", "errors", "runtime"],
    "worker": ["rpc", "flow", "errors", "runtime"],
    "server": [
        "addresses", "rest", "rpc", "cluster", "views", "partition", "engine", "dispatch", "store", "actions", "flow",
        "swim", "ring", "telemetry", "runtime", "errors",
    ],
    "commands": ["server", "worker", "engine", "store", "flow", "ring", "telemetry", "runtime", "errors"],
    "__main__": ["commands"],
}  # fmt: skip
# The store's port without its implementations, which only those who open them may know.
STORE_PORT = [f"store.{path.stem}" for path in sorted((SOURCE / "store").glob("*.py")) if path.stem != "__init__"]
# What a part keeps to, of what its folder may import.
INNER = {
    "worker": {"rpc": ["rpc.grpc", "rpc.generated"], "flow": ["flow.definition"]},
    "rest": {"flow": ["flow.definition", "flow.effects", "flow.execution", "flow.validation", "flow.json"]},
    **{module: {"store": STORE_PORT} for module in STORE_PORT},
    "store.memory": {"store": ["store.memory", *STORE_PORT]},
    "store.redis": {"store": ["store.redis", *STORE_PORT]},
    "engine": {"store": STORE_PORT, "actions": ["actions.javascript.port", "actions.runner"]},
    "views": {"store": STORE_PORT},
    "partition": {"store": STORE_PORT, "flow": ["flow.events"]},
    "dispatch": {"store": STORE_PORT, "flow": ["flow.events", "flow.runs"]},
    "cluster": {
        "flow": ["flow.definition"], "partition": ["partition.holdings", "partition.leases"],
        "runtime": ["runtime.callbacks"],
    },
    "telemetry": {"runtime": ["runtime.token_bucket"]},
    "rpc.http2": {"rpc": ["rpc.http2"], "engine": [], "dispatch": [], "store": [], "flow": [], "telemetry": []},
    "rpc.grpc": {"rpc": ["rpc.http2", "rpc.grpc"], "engine": [], "dispatch": [], "store": [], "telemetry": []},
    "actions.javascript": {"actions": ["actions.javascript", "actions.runner"]},
    "commands.serve": {"worker": [], "engine": [], "store": [], "flow": [], "ring": []},
    "commands.demo": {"server": [], "engine": [], "store": [], "flow": [], "ring": [], "telemetry": []},
    "commands.verify": {"server": [], "worker": [], "engine": ["engine.transition"], "telemetry": []},
}  # fmt: skip


def module_of(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def inside(module: str, folder: str) -> bool:
    return module == folder or module.startswith(f"{folder}.")


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
    module = module_of(path).removeprefix("orchy").removeprefix(".")
    folder = module.split(".")[0]
    for imported in sorted(imports_of(path) - {"orchy.__version__"}):
        imported = imported.removeprefix("orchy.")
        target = imported.split(".")[0]
        assert target == folder or target in MAY_IMPORT[folder], f"{module} imports {imported}, which is not below it"
        for part, rules in INNER.items():
            if inside(module, part) and target in rules:
                assert any(inside(imported, allowed) for allowed in rules[target]), (
                    f"{module} imports {imported}; of {target} it may know {rules[target] or 'nothing'}"
                )


def test_the_folders_stand_on_each_other():
    below: set[str] = set()
    for folder, imported in MAY_IMPORT.items():
        assert set(imported) <= below, f"{folder} stands below {set(imported) - below}"
        below.add(folder)
    assert {path.relative_to(SOURCE).parts[0].removesuffix(".py") for path in FILES} <= below | {"__init__"}


def test_no_module_imports_itself_by_a_detour():
    modules = {module_of(path): path for path in FILES}
    numbers = {module: number for number, module in enumerate(modules)}
    edges = {
        numbers[module]: [
            numbers[found]
            for name in imports_of(path)
            for found in [name if name in numbers else name.rpartition(".")[0]]
            if found in numbers and found != module
        ]
        for module, path in modules.items()
    }
    names = list(modules)
    assert [[names[number] for number in cycle] for cycle in cycles(edges)] == []


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
    assert len(text.splitlines()) <= 400, "a file of more than 400 lines holds two ideas"
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
    command = re.search(
        r"## Run the tests\n\n(?:<!--.*?-->\n)?```bash\n(.*?)\n```", (ROOT / "README.md").read_text(), re.DOTALL
    )
    assert command is not None
    assert "nox -s tests" in command[1]
    assert "README.md" in (ROOT / ".ci" / "run").read_text()


@pytest.mark.parametrize("program", ["draw_diagrams.py", "list_settings.py"])
def test_the_pages_are_those_of_the_tables(program):
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / program), "--check"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
