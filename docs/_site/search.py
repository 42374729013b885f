"""Searches the built site with the site's own scripts: `python docs/_site/search.py site WORD ...`.

They run here without a browser, so that a theme or an index that lost its search fails the build.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import quickjs

# What the scripts expect of a browser when they are loaded and search; none of it is looked at.
_BROWSER = """
globalThis.window = globalThis;
var location = {search: "", pathname: "/search.html"};
var document = {addEventListener() {}, getElementById() { return {}; }};
var localStorage = {getItem() { return null; }, removeItem() {}};
var SPHINX_HIGHLIGHT_ENABLED = false;
var _ready = () => {};
"""
_SEARCH = """
((query) => {
  const [, words, excluded, highlighted, titles] = Search._parseQuery(query);
  return JSON.stringify(Search._performSearch(query, words, excluded, highlighted, titles).map((found) => found[0]));
})
"""


def search(site: Path, query: str) -> list[str]:
    """The pages that are found, the best one last, as the search page's script gives them."""
    context = quickjs.Context()
    context.eval(_BROWSER)
    for script in ("_static/searchtools.js", "_static/language_data.js", "searchindex.js"):
        context.eval((site / script).read_text("utf-8"))
    found: list[str] = json.loads(context.eval(f"{_SEARCH}({json.dumps(query)})"))
    return found


def main(argv: list[str]) -> int:
    """0, or 1 if one of the words is not found."""
    site, *words = argv
    missing = [word for word in words if not search(Path(site), word)]
    for word in missing:
        print(f"the site's search does not find {word!r}", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
