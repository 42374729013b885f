"""The documentation site: `nox -s docs`. The pages are the Markdown that GitHub shows; nothing is written twice.

The root of the repository is Sphinx' source directory, so that README.md, docs/ and links between them are the same in
both places. What is particular to the site is in `_site/`: the navigation, and diagrams that are drawn at build time.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

project = "Orchy"
author = "The Orchy maintainers"
copyright = author  # noqa: A001 - Sphinx' name for it
extensions = ["myst_parser", "sphinx_copybutton", "_site.mermaid", "_site.navigation"]

root_doc = "docs/index"
include_patterns = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/**.md"]
# Only there so that Sphinx does not walk through them.
exclude_patterns = ["src", "tests", "bench", "proto", "clients", "web", "examples", "deploy", "site", "**/.*", ".*"]

myst_enable_extensions = ["strikethrough"]
myst_heading_anchors = 4  # anchors as GitHub makes them

# Copied are the commands of a console block, without prompts and answers.
copybutton_prompt_text = "$ "
copybutton_line_continuation_character = "\\"
copybutton_here_doc_delimiter = "EOF"

html_theme = "furo"
html_title = "Orchy"
html_static_path = ["_site/static"]
html_css_files = ["orchy.css"]
html_extra_path = ["_site/root"]
html_copy_source = False
html_show_sphinx = False
html_use_index = False
html_domain_indices = False
pygments_style = "friendly"
pygments_dark_style = "monokai"

linkcheck_ignore = [r"https?://(localhost|127\.0\.0\.1|orchy\.example\.com).*"]
linkcheck_timeout = 20
linkcheck_anchors = False  # GitHub makes them with a script
