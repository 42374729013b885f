"""Writes docs/worker-api.md from the docstrings of `orchy.worker`: `python docs/write_worker_api.py [--check]`.

A docstring is Markdown: paragraphs, indented code, and a list with an item for each argument ("* `name`: what it is").
An argument without an item, or an item without its argument, is an error: the page names them all.
"""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orchy.worker

PAGE = Path(__file__).parent / "worker-api.md"
WIDTH = 120
BEGINNING = """\
<!-- Made from docstrings by docs/write_worker_api.py: change those, and run nox -s diagrams. -->

# The worker library

All that `orchy.worker` has. How to write a worker is in [workers](workers.md); a worker in another language speaks
[the protocol](protocol.md).
"""

_ITEM = re.compile(r"\* `(?P<name>\w+)`: (?P<text>.*)", re.DOTALL)


class Incomplete(Exception):
    """A docstring and what it documents do not agree."""


def write() -> str:
    """The page."""
    parts = [BEGINNING, *_paragraphs(inspect.getdoc(orchy.worker) or "", {}, "orchy.worker")]
    for name in sorted(orchy.worker.__all__, key=lambda name: (name != "Worker", name)):
        parts += _class(name, getattr(orchy.worker, name))
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def _class(name: str, documented: type) -> Iterator[str]:
    yield f"## {name}"
    if issubclass(documented, Exception):
        arguments: dict[str, str] = {}
        yield _block(f"class {name}(Exception)")
    elif any(isinstance(member, property) for member in vars(documented).values()):  # made for users, not by them
        yield _block(f"class {name}")
        annotations = inspect.get_annotations(documented)
        arguments = {field: str(annotation) for field, annotation in annotations.items() if field[0] != "_"}
    else:
        signature = inspect.signature(documented)
        arguments = _arguments(signature)
        yield _block(_call(f"class {name}", signature))
    yield from _paragraphs(inspect.getdoc(documented) or "", arguments, name)
    for member, value in vars(documented).items():
        if member.startswith("_"):
            continue
        if isinstance(value, property):
            yield f"### {name}.{member}"
            assert value.fget is not None
            yield _block(f"{member}: {inspect.signature(value.fget).return_annotation}  (read only)")
            yield from _paragraphs(inspect.getdoc(value) or "", {}, f"{name}.{member}")
        elif inspect.isfunction(value):
            yield from _method(f"{name}.{member}", value)


def _method(name: str, function: Callable[..., Any]) -> Iterator[str]:
    signature = inspect.signature(function)
    ours = signature.replace(parameters=list(signature.parameters.values())[1:])
    yield f"### {name}"
    prefix = "async " if inspect.iscoroutinefunction(function) else ""
    answer = str(signature.return_annotation).replace("_F", "F")  # any function
    yield _block(f"{_call(prefix + function.__name__, ours)} -> {answer}")
    yield from _paragraphs(inspect.getdoc(function) or "", _arguments(ours), name)


def _public(signature: inspect.Signature) -> list[tuple[str, inspect.Parameter]]:
    """All but what begins with an underscore, which is for the library's own tests."""
    return [(name, parameter) for name, parameter in signature.parameters.items() if not name.startswith("_")]


def _arguments(signature: inspect.Signature) -> dict[str, str]:
    """By name: the type, and the default if there is one."""
    arguments: dict[str, str] = {}
    for name, parameter in _public(signature):
        default = "" if parameter.default is parameter.empty else f", default {_shown(parameter.default)}"
        arguments[name] = f"{parameter.annotation}{default}"
    return arguments


def _call(head: str, signature: inspect.Signature) -> str:
    """How it is called, one argument a line where one line is too short."""
    said: list[str] = []
    for name, parameter in _public(signature):
        if parameter.kind is parameter.KEYWORD_ONLY and not any(one.startswith("*") for one in said):
            said.append("*")
        star = "*" if parameter.kind is parameter.VAR_POSITIONAL else ""
        default = "" if parameter.default is parameter.empty else f" = {_shown(parameter.default)}"
        said.append(f"{star}{name}: {parameter.annotation}{default}")
    text = f"{head}({', '.join(said)})"
    return text if len(text) <= WIDTH - 30 else "\n".join([f"{head}(", *(f"    {one}," for one in said), ")"])


def _shown(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)


def _block(text: str) -> str:
    return f"<!-- not run: a signature -->\n```text\n{text}\n```"


def _paragraphs(docstring: str, arguments: dict[str, str], where: str) -> Iterator[str]:
    """A docstring's parts as Markdown. Raises Incomplete."""
    if not docstring:
        raise Incomplete(f"{where} has no docstring")
    described: list[str] = []
    for block in re.split(r"\n\n(?=\S)", inspect.cleandoc(docstring)):
        if block.startswith("* "):
            items = [_ITEM.fullmatch(item) for item in re.split(r"\n(?=\* )", block)]
            named = [item for item in items if item is not None]
            if len(named) != len(items):
                raise Incomplete(f"{where}: an item of its list does not begin with a name")
            described += [item["name"] for item in named]
            yield "\n".join(_item(item["name"], item["text"], arguments.get(item["name"], "")) for item in named)
            continue
        prose, *code = re.split(r"\n\n(?=    )", block, maxsplit=1)
        yield _wrap(prose)
        if code:
            yield f"```python\n{textwrap.dedent(code[0]).rstrip()}\n```"
    if sorted(described) != sorted(arguments):
        raise Incomplete(f"{where} describes {described}, and takes {list(arguments)}")


def _item(name: str, text: str, told: str) -> str:
    return _wrap(f"* **`{name}`** (`{told}`): {text}", indent="  ")


def _wrap(text: str, indent: str = "") -> str:
    flat = " ".join(text.split())
    return textwrap.fill(flat, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def main(argv: list[str]) -> int:
    """0, or 1 if the page was stale and only to be checked, or a docstring lacks something."""
    try:
        page = write()
    except Incomplete as error:
        print(error, file=sys.stderr)
        return 1
    if argv == ["--check"]:
        if not PAGE.exists() or PAGE.read_text("utf-8") != page:
            print("docs/worker-api.md is stale: run nox -s diagrams", file=sys.stderr)
            return 1
        return 0
    PAGE.write_text(page, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
