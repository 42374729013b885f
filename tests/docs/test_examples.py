"""Every block of every page is of a kind that is checked, or says why it is not. Commands are run by `test_console`."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pkgutil
import re
import shlex
import tomllib

import pytest

import orchy
from orchy.actions import SYSTEM_ACTIONS
from orchy.flow.validation.definitions import parse_workflow
from orchy.worker import Worker
from tests.docs.pages import BLOCKS, PAGES, ROOT, Block, parse
from tests.docs.terminals import commands

#: Checked here, in `test_console`, or, for mermaid, by the build of the site.
RUN = {"json", "python", "toml", "proto", "mermaid", "console", "bash"}
#: Second words of blocks that have a test of their own: tests/flow/test_validation_documentation.py.
DEFINITIONS = {"runs", "context", "expressions", "invalid", "definition", "errors", "warnings"}
MERMAID = (
    "stateDiagram-v2",
    "flowchart ",
    "graph ",
    "sequenceDiagram",
    "classDiagram",
    "erDiagram",
    "timeline",
    "gantt",
)
PLACEHOLDER = re.compile(r"[A-Z]{3,}|\$|<|\.\.\.")


def has_own_test(block: Block) -> bool:
    return block.page == "docs/definitions.md" and bool(DEFINITIONS & set(block.words))


def of(*languages: str) -> list[Block]:
    """The blocks in these languages that are run."""
    return [b for b in BLOCKS if b.language in languages and b.not_run is None and not has_own_test(b)]


def place(value: object) -> str:
    return value.place if isinstance(value, Block) else str(value)


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.not_run is None], ids=place)
def test_every_block_is_of_a_kind_that_is_run(block):
    assert block.language in RUN or has_own_test(block), (
        f"{block.place}: a block of the kind {block.language!r} can't be run: say why in a comment before it,"
        " <!-- not run: ... -->, or give it one of these: " + ", ".join(sorted(RUN))
    )


@pytest.mark.parametrize(
    "block", [b for b in BLOCKS if b.not_run is not None], ids=lambda block: f"{block.place}: {block.not_run}"
)
def test_a_block_that_is_not_run_says_why(block):
    assert len(block.not_run.split()) >= 2
    if block.language == "python":
        compile(block.text, block.place, "exec")
    for line in commands_of_orchy(block.text):
        check_command(line, block.place)


@pytest.mark.parametrize("block", of("json"), ids=place)
def test_json_is_what_it_looks_like(block):
    value = json.loads(block.text)
    fields = set(value) if isinstance(value, dict) else set()
    if "workflow" in block.words or "rootAction" in fields:
        check_workflow(block.text)
    elif "action" in block.words or {"id", "type"} <= fields:
        ends = sorted({target for targets in value.get("next", {}).values() for target in targets})
        actions = [value, *({"id": end, "type": "user", "name": "end"} for end in ends)]
        check_workflow(json.dumps({"name": "w", "rootAction": value["id"], "actions": actions}))


def check_workflow(source: str) -> None:
    validated = parse_workflow(source, SYSTEM_ACTIONS)
    assert (validated.errors, validated.warnings) == ((), ())


@pytest.mark.parametrize("page", [page for page in PAGES if of("python")], ids=lambda page: page.name)
def test_python_runs_against_the_library(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Worker, "run", lambda self: None)
    namespace = {"__name__": "__main__"}
    for block in page.blocks:
        if block.language == "python" and block.not_run is None:
            code = compile(block.text, block.place, "exec")
            if block.file is None:
                exec(code, namespace)


@pytest.mark.parametrize("block", of("toml"), ids=place)
def test_toml_is_a_configuration(block):
    settings = module_with("SETTINGS", "load")
    settings.load({}, {}, tomllib.loads(block.text), "host")


@pytest.mark.parametrize("block", of("proto"), ids=place)
def test_proto_is_that_of_the_worker_api(block):
    known = {squeezed(line) for path in (ROOT / "proto").rglob("*.proto") for line in path.read_text().splitlines()}
    for line in map(squeezed, block.text.splitlines()):
        assert line in known or line == "...", f"{block.place}: {line}"


def squeezed(line: str) -> str:
    """Without its comment and its indentation."""
    return " ".join(line.partition("//")[0].split())


@pytest.mark.parametrize("block", of("mermaid"), ids=place)
def test_mermaid_is_of_a_type_that_can_be_drawn(block):
    assert block.text.lstrip().startswith(MERMAID)


@pytest.mark.parametrize("block", [block for block in of("console") if block.has_commands], ids=place)
def test_commands_of_orchy_are_right_before_they_are_run(block):
    found = commands(block.text, block.line + 1)
    assert found, f"{block.place}: a console block has no line that begins with '$ '"
    for command in found:
        if command.answer and command.answer.startswith("orchy: "):
            continue  # shown as a mistake
        for line in commands_of_orchy(command.text):
            check_command(line, block.place)


def commands_of_orchy(text: str) -> list[str]:
    """What stands behind `python -m orchy` or `python -m orchy.worker` in a text of commands."""
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    found = (re.search(r"(?:-m |bin/|^\$ )(orchy(?:\.worker)?)((?: .*)?)$", line) for line in lines)
    return [match[1] + match[2] for match in found if match]


def check_command(line: str, where: str) -> None:
    """The program's own parser takes it, and so do the settings where the page gives them real values."""
    words = shlex.split(line, comments=True)
    ends = [at for at, word in enumerate(words) if re.fullmatch(r"[|;&]+|\d?>+.*", word)]
    program, *arguments = words[: ends[0]] if ends else words
    taken = parsed_by(program, arguments)
    assert taken is not None, f"{where}: {line}: the program does not take it"
    flags = {name: value for name, value in vars(taken).items() if value is not None}
    settings = module_with("SETTINGS", "load")
    known = {setting.name for setting in settings.SETTINGS}
    if flags.keys() <= known | {"config_file"} and not any(PLACEHOLDER.search(str(value)) for value in flags.values()):
        settings.load({name: value for name, value in flags.items() if name in known}, {}, None, "host")


def parsed_by(program: str, arguments: list[str]) -> argparse.Namespace | None:
    """What the program's parser makes of its arguments; None if it refuses them. Nothing is started."""
    taken: list[argparse.Namespace] = []
    parse_args = argparse.ArgumentParser.parse_args

    def take(self, *args, **kwargs):
        taken.append(parse_args(self, *args, **kwargs))
        raise SystemExit(0)

    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("ORCHY_")]:
            patch.delenv(name)
        patch.setattr(argparse.ArgumentParser, "parse_args", take)
        try:
            importlib.import_module(f"{program}.__main__").main(arguments)
        except SystemExit as error:
            if arguments in (["--help"], ["--version"]) and error.code == 0:
                return argparse.Namespace()
    return taken[0] if taken else None


def module_with(*names: str) -> object:
    """The module of Orchy that has these names: where it lies is not this test's affair."""
    for module in pkgutil.walk_packages(orchy.__path__, "orchy."):
        if module.name.endswith(".config"):
            found = importlib.import_module(module.name)
            if all(hasattr(found, name) for name in names):
                return found
    raise LookupError(names)


def test_a_mistake_in_a_command_is_noticed():
    for line in ("orchy --http-prot 1", "orchy --http-port x", "orchy demo --nodez 3", "orchy --partitions 0"):
        with pytest.raises((AssertionError, ValueError, orchy.errors.ConfigurationError)):
            check_command(line, "here")
    check_command("orchy --http-port 8081 --gossip-key KEY &", "here")


def test_comments_belong_to_the_block_after_them():
    page = parse("p", "<!-- not run: no host -->\n<!-- file: a.py -->\n\n```python\nx\n```\n\n```console\n$ y\n```\n")
    assert [(b.not_run, b.file, b.words, b.line) for b in page.blocks] == [
        ("no host", "a.py", ("python",), 4),
        (None, None, ("console",), 8),
    ]
    with pytest.raises(ValueError, match="no block follows"):
        parse("p", "<!-- not run: no host -->\nprose\n")
    with pytest.raises(ValueError, match="does not end"):
        parse("p", "```python\nx\n")


def test_a_command_may_have_several_lines_and_an_answer():
    text = "$ a \\\n  b\n$ c '{\n  d}' # e\nanswer\n  of c\n"
    found = commands(text, 10)
    assert [(c.line, c.text, c.answer) for c in found] == [
        (10, "a \\\n  b", None),
        (12, "c '{\n  d}' # e", "answer\n  of c"),
    ]
    with pytest.raises(ValueError, match="no command"):
        commands("a\n", 1)
