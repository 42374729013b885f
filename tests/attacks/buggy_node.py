"""`python -m orchy` with a bug: a flow whose input says so raises what nobody foresaw when it comes to a wait."""

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
