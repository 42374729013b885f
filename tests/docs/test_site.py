"""The check of the built site notices what a reader without a network would miss."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.docs.pages import ROOT

CHECK = ROOT / "docs" / "_site" / "check.py"


def checked(site):
    return subprocess.run(
        [sys.executable, str(CHECK), str(site)], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    ("html", "complaint"),
    [
        ('<a href="other.html#there">', ""),
        ('<a href="https://example.com/x">', ""),
        ('<a href="gone.html">', "index.html leads to gone.html, which is not there"),
        ('<a href="other.html#gone">', "index.html leads to other.html#gone, and there is no such anchor"),
        ('<a href="#gone">', "index.html leads to #gone, and there is no such anchor"),
        ('<img src="gone.png">', "index.html leads to gone.png, which is not there"),
        ('<script src="https://cdn.example.com/x.js">', "index.html fetches https://cdn.example.com/x.js"),
        ('<link rel="stylesheet" href="//fonts.example.com/x">', "index.html fetches //fonts.example.com/x"),
    ],
)
def test_links_and_what_is_fetched(tmp_path, html, complaint):
    (tmp_path / "index.html").write_text(html)
    (tmp_path / "other.html").write_text('<h1 id="there">Other</h1>')
    done = checked(tmp_path)
    assert (done.returncode, done.stderr.strip()) == (int(bool(complaint)), complaint)


def test_styles_that_fetch(tmp_path):
    (tmp_path / "index.html").write_text("")
    (tmp_path / "x.css").write_text('@import "https://fonts.example.com/a"; b { background: url(own.png) }')
    done = checked(tmp_path)
    assert (done.returncode, done.stderr.strip()) == (1, "x.css fetches https://fonts.example.com/a")


def test_a_site_without_pages(tmp_path):
    assert checked(tmp_path).returncode == 1
