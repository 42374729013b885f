"""Looks through the built site as a browser without a network would: `python docs/_site/check.py site`.

Every link and anchor leads somewhere, and no page, style or script is fetched from anywhere else.
"""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# Attributes whose value a browser fetches without being asked; an <a> is only followed.
_FETCHED = {"src", "srcset", "poster", "data"}


class Page(HTMLParser):
    """What a page refers to, and the anchors that it has."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.anchors: set[str] = set()
        self.links: set[str] = set()
        self.fetched: set[str] = set()
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take note of a tag's ids and addresses."""
        for name, value in attrs:
            if not value:
                continue
            if name == "id" or (tag == "a" and name == "name"):
                self.anchors.add(value)
            elif name in _FETCHED or (tag == "link" and name == "href"):
                self.fetched.add(value)
            elif name in ("href", "xlink:href"):
                self.links.add(value)


def check(site: Path) -> list[str]:
    """A line for each thing that is wrong."""
    pages = {path.resolve(): Page(path) for path in sorted(site.rglob("*.html"))}
    problems = [] if pages else [f"there is no page in {site}"]
    for path, page in pages.items():
        shown = path.relative_to(site.resolve())
        problems += [f"{shown} fetches {address}" for address in sorted(page.fetched) if _is_elsewhere(address)]
        for link in sorted(page.links | page.fetched):
            if urlsplit(link).scheme or _is_elsewhere(link):
                continue
            target, _, anchor = link.partition("#")
            file = (path.parent / unquote(urlsplit(target).path)).resolve() if target else path
            if not file.exists():
                problems.append(f"{shown} leads to {link}, which is not there")
            elif anchor and file in pages and unquote(anchor) not in pages[file].anchors:
                problems.append(f"{shown} leads to {link}, and there is no such anchor")
    for style in sorted(site.rglob("*.css")):
        text = style.read_text("utf-8")
        for address in re.findall(r"url\(\s*[\"']?([^\"')]+)|@import\s+[\"']([^\"']+)", text):
            if _is_elsewhere(fetched := "".join(address)):
                problems.append(f"{style.relative_to(site)} fetches {fetched}")
    return problems


def _is_elsewhere(address: str) -> bool:
    return address.startswith("//") or urlsplit(address).scheme in ("http", "https", "ws", "wss")


def main(argv: list[str]) -> int:
    """0, or 1 if something is wrong."""
    problems = check(Path(argv[0]))
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
