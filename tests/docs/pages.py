"""The pages as the tests read them: fenced blocks and the comments that say what is to be done with them.

The convention is told to writers in CONTRIBUTING.md, "Examples in the documentation".
"""

from __future__ import annotations

import re
from pathlib import Path

import attrs

ROOT = Path(__file__).parents[2]

#: What a comment may begin with; every other comment is for somebody else.
COMMENTS = ("not run", "file", "files", "setup", "stop", "kill")
#: Those that speak of the block right after them.
_OF_THE_NEXT = ("not run", "file")


@attrs.frozen
class Comment:
    """`<!-- kind: body -->` on lines of its own."""

    line: int
    kind: str
    body: str


@attrs.frozen
class Block:
    """A fenced block. `words` are the words of its info string; the first one is the language."""

    page: str
    line: int
    words: tuple[str, ...]
    text: str
    not_run: str | None = None
    file: str | None = None

    @property
    def language(self) -> str:
        return self.words[0] if self.words else ""

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def has_commands(self) -> bool:
        """Whether it is a terminal's, and not only shows what one says later."""
        return self.language == "console" and self.option("shows") is None

    def option(self, name: str) -> str | None:
        """The value of `name=value` in the info string."""
        return next((word.partition("=")[2] for word in self.words if word.startswith(f"{name}=")), None)


@attrs.frozen
class Page:
    """One page: its blocks and comments, in their order."""

    name: str
    text: str
    items: tuple[Block | Comment, ...]

    @property
    def blocks(self) -> tuple[Block, ...]:
        return tuple(item for item in self.items if isinstance(item, Block))


def paths() -> list[Path]:
    """Every page whose examples are run."""
    found = [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    return sorted(found)


def parse(name: str, text: str) -> Page:
    """Take a page apart. Raises ValueError for a block that does not end, or a comment that speaks of no block."""
    lines = text.splitlines()
    items: list[Block | Comment] = []
    waiting: list[Comment] = []
    at = 0
    while at < len(lines):
        line = lines[at]
        if fence := re.fullmatch(r"( *)(`{3,}|~{3,})\s*([^`]*)", line):
            end = _end_of_block(name, lines, at, fence[2])
            body = "\n".join(text.removeprefix(fence[1]) for text in lines[at + 1 : end])
            said = {comment.kind: comment.body for comment in waiting}
            words = tuple(fence[3].split())
            items.append(Block(name, at + 1, words, body, said.get("not run"), said.get("file")))
            waiting, at = [], end
        elif line.lstrip().startswith("<!--"):
            end = at
            while "-->" not in lines[end]:
                end += 1
            body = "\n".join(lines[at : end + 1]).strip().removeprefix("<!--").removesuffix("-->").strip()
            kind, _, rest = body.replace("\n", ":\n", 1).partition(":")
            if kind in COMMENTS:
                comment = Comment(at + 1, kind, rest.strip(":\n "))
                (waiting if kind in _OF_THE_NEXT else items).append(comment)
            at = end
        elif line.strip() and waiting:
            raise ValueError(f"{name}:{waiting[0].line}: no block follows the comment '{waiting[0].kind}'")
        at += 1
    if waiting:
        raise ValueError(f"{name}:{waiting[0].line}: no block follows the comment '{waiting[0].kind}'")
    return Page(name, text, tuple(items))


def _end_of_block(name: str, lines: list[str], start: int, fence: str) -> int:
    for at in range(start + 1, len(lines)):
        closing = lines[at].strip()
        if closing.startswith(fence) and not closing.strip(fence[0]):
            return at
    raise ValueError(f"{name}:{start + 1}: the block does not end")


def load(path: Path) -> Page:
    """The page in a file of the repository."""
    return parse(path.relative_to(ROOT).as_posix(), path.read_text("utf-8"))


PAGES = [load(path) for path in paths()]
BLOCKS = [block for page in PAGES for block in page.blocks]


def page_named(name: str) -> Page:
    """A page by its path from the root. Raises StopIteration."""
    return next(page for page in PAGES if page.name == name)
