"""Writes the tables of docs/configuration.md from the settings: `python docs/list_settings.py [--check]`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from orchy.server.config import SETTINGS, Setting

PAGE = Path(__file__).parent / "configuration.md"


def row(setting: Setting) -> str:
    """A line of a table."""
    repeated = ", ..." if setting.repeats else ""
    default = f"`{setting.default}`" if setting.default is not None else ""
    return f"| `{setting.flag} {setting.metavar}`{repeated} | {default} | {setting.help} |"


def table(group: str) -> str:
    """The settings of a group."""
    lines = ["| flag | default | meaning |", "| --- | --- | --- |"]
    return "\n".join([*lines, *(row(setting) for setting in SETTINGS if setting.group == group)])


def write(page: str) -> str:
    """The page with its tables written anew. Raises ValueError if a group has no place on it."""
    for group in dict.fromkeys(setting.group for setting in SETTINGS):
        pattern = rf"(<!-- SETTINGS {group} -->\n).*?(\n(?:\n|$))"
        if not re.search(pattern, page, re.DOTALL):
            raise ValueError(f"docs/configuration.md has no place for the settings of the group {group!r}")
        made = table(group)
        page = re.sub(pattern, lambda match: match[1] + made + match[2], page, flags=re.DOTALL)  # noqa: B023
    return page


def main(argv: list[str]) -> int:
    """0, or 1 if the page was stale and only to be checked."""
    page = PAGE.read_text("utf-8")
    written = write(page)
    if argv == ["--check"]:
        if written != page:
            print("docs/configuration.md is stale: run nox -s diagrams", file=sys.stderr)
        return int(written != page)
    PAGE.write_text(written, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
