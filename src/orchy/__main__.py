"""The command line: `python -m orchy [flags]` is a server, `demo` shows one at work, `verify` checks what it keeps."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code: 0 after a drained stop, 1 for a failure at run time, 2 for a bad command line or configuration."""
    argv = sys.argv[1:] if argv is None else list(argv)
    if argv[:1] == ["demo"]:
        from orchy.commands.demo import run_demo

        return run_demo(argv[1:])
    if argv[:1] == ["verify"]:
        from orchy.commands.verify import run_verify

        return run_verify(argv[1:])
    from orchy.commands.serve import serve

    return serve(argv)


if __name__ == "__main__":
    sys.exit(main())
