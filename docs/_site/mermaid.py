"""Mermaid blocks become SVG when the site is built: the real Mermaid, in an engine of its own, without a browser.

So a reader's browser runs no script for them and asks nobody's server, and GitHub still draws the same block itself.
"""

from __future__ import annotations

from typing import Any

import mermaidx
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.transforms import SphinxTransform

# The id under which Mermaid files its styles and arrow heads: two diagrams on a page need two.
_ID = "my-svg"


def draw(source: str, name: str) -> str:
    """The diagram as an SVG element whose ids begin with `name`. Raises ExtensionError for what Mermaid can't read."""
    try:
        svg: str = mermaidx.render(source).svg()
    except Exception as error:
        raise ExtensionError(f"Mermaid can't draw {name}: {error}\n{source}") from error
    return svg.replace(_ID, name)


class DrawMermaid(SphinxTransform):
    """Replaces each `mermaid` block by its drawing. Other builders (search, links) need none."""

    default_priority = 400

    def apply(self, **options: Any) -> None:
        if self.app.builder.format != "html":
            return
        blocks = [block for block in self.document.findall(nodes.literal_block) if block.get("language") == "mermaid"]
        page = self.env.docname.replace("/", "-")
        for number, block in enumerate(blocks, 1):
            drawn = draw(block.astext(), f"{page}-diagram-{number}")
            block.replace_self(nodes.raw("", f'<div class="diagram">{drawn}</div>', format="html"))


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.add_transform(DrawMermaid)
    return {"parallel_read_safe": True}
