"""Every command on a page is run as its reader would, against real servers and workers, and answers as shown."""

from __future__ import annotations

import pytest

from tests.docs.pages import PAGES, Block, Comment, Page, parse
from tests.docs.terminals import Session


def has_commands(page: Page) -> bool:
    return any(
        (isinstance(item, Block) and item.language in ("console", "bash") and item.not_run is None)
        or (isinstance(item, Comment) and item.kind == "setup")
        for item in page.items
    )


@pytest.mark.real
@pytest.mark.parametrize("page", [page for page in PAGES if has_commands(page)], ids=lambda page: page.name)
def test_a_reader_who_follows_the_page_sees_what_it_shows(page, tmp_path):
    session = Session(page, tmp_path)
    try:
        session.follow()
    finally:
        session.close()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("```console\n$ echo a\nb\n```", "p:2: echo a"),
        ("```console\n$ echo a\n$ false\n```", "p:3: false"),
        ("```bash\nfalse\ntrue\n```", "ended with 1"),
        ("<!-- setup\n$ false\n-->", "p:2: false"),
        ("```console terminal=a\n$ sleep 60\n```\n<!-- stop: b -->", "no terminal is named 'b'"),
        ("```console terminal=a\n$ sleep 60\n```\n<!-- stop: a -->", "^$"),
    ],
)
def test_a_page_that_shows_what_is_not_so_is_told_with_its_place(tmp_path, text, complaint):
    session = Session(parse("p", text), tmp_path)
    try:
        with pytest.raises(AssertionError, match=complaint):
            session.follow()
    finally:
        session.close()


def test_files_and_terminals_of_a_page(tmp_path):
    page = parse(
        "p",
        """
<!-- file: said.txt -->
```text
hello
```
```console terminal=follower
$ tail -n +1 -f said.txt
...lo
```
```console
$ echo "and again" >> said.txt
$ cat said.txt
hello
...
```
```console shows=follower
and ...
```
<!-- kill: follower -->
""",
    )
    session = Session(page, tmp_path)
    try:
        session.follow()
        assert session.terminals == {}
    finally:
        session.close()
