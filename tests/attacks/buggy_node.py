"""`python -m orchy` with a bug: flows with a certain input raise an unexpected exception when they reach a wait."""

from __future__ import annotations

import sys

from orchy.__main__ import main
from orchy.flow.draft import Draft

_wait = Draft.wait


def buggy(self, *args):
    if self.before.input == {"bad": True}:
        raise KeyError("a bug")
    return _wait(self, *args)


if __name__ == "__main__":
    Draft.wait = buggy
    sys.exit(main(sys.argv[1:]))
