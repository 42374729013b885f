"""The navigation of `navigation.toml`, put into the pages when they are read: on GitHub they need none."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

FILE = Path(__file__).parents[1] / "navigation.toml"
ROOT = FILE.parents[1]


def toctree(patterns: Sequence[str], *options: str) -> str:
    """A table of contents of what the patterns find, as MyST reads it; empty when that is nothing."""
    entries = []
    for pattern in patterns:
        title, path = _split(pattern)
        found = sorted(ROOT.glob(path))
        pages = [f"/{page.relative_to(ROOT).with_suffix('').as_posix()}" for page in found]
        entries += [f"{title} <{page}>" if title else page for page in pages]
    if not entries:
        return ""
    return "\n".join(["", "```{toctree}", *options, "", *entries, "```", ""])


def _split(pattern: str) -> tuple[str, str]:
    match = re.fullmatch(r"(.+?) <(.+)>", pattern)
    return (match[1], match[2]) if match else ("", pattern)


def add_navigation(app: Sphinx, docname: str, source: list[str]) -> None:
    """Append a page's tables of contents to its text."""
    navigation = tomllib.loads(FILE.read_text("utf-8"))
    if docname == app.config.root_doc:
        for group in navigation["group"]:
            source[0] += toctree(group["pages"], ":hidden:", f":caption: {group['title']}")
    if below := navigation["below"].get(f"{docname}.md"):
        source[0] += toctree(below, ":maxdepth: 1")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("source-read", add_navigation)
    return {"parallel_read_safe": True}
