"""The command line: `python -m orchy [SUBCOMMAND] [flags]`; without a subcommand it runs a server."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

from orchy.commands import SUBCOMMANDS


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code: 0 for success, 1 for a failure at run time, 2 for a bad command line or configuration."""
    name, *rest = "serve", *(sys.argv[1:] if argv is None else argv)
    if rest and rest[0] in SUBCOMMANDS:
        name, *rest = rest
    code: int = import_module(SUBCOMMANDS[name].module).run(rest)
    return code


if __name__ == "__main__":
    sys.exit(main())
