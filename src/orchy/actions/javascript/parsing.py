"""A script that is parsed and not run. Runs in a worker process: relies on the standard library alone.

Both engines read the whole of a script before they begin it. So it is evaluated as ever, with a statement before it
that throws: what is thrown then is that, or why the script can't be read. No other wrapping could tell what a script
at its place is: in a function `return` would be fine, and a brace too many would end the function.
"""

from __future__ import annotations

import json
import re

from orchy.actions.javascript.failures import NO_VALUE, Answer, failure

#: What is thrown when the whole of a script was read.
PARSED = "0"
_THROW = f"throw {PARSED};"
_STRICT = re.compile(
    r"""(?:\s|//[^\n]*+\n|/\*(?:[^*]|\*(?!/))*+\*/)*+("use\ strict"|'use\ strict')[^\S\n]*+(?=[;\n]|\Z)""", re.VERBOSE
)


class Parse:
    """What an engine is to evaluate, and what its SyntaxError means for the script."""

    def __init__(self, script: str) -> None:
        self._script = script
        # A strict script is one that begins so, and it would not any more.
        self._before = f'"use strict";{_THROW}' if _STRICT.match(script) else _THROW
        if script.startswith("#!"):  # only the very first line may be one of these
            script = "//" + script[2:]
        self.text = self._before + script + NO_VALUE

    def failure(self, message: str, line: int | None, column: int | None) -> Answer:
        """It can't be parsed: why, and where in the script."""
        lines = self._script.split("\n")
        if line is not None and line > len(lines):  # in what was added behind it
            message, line, column = "SyntaxError: unexpected end of the script", len(lines), len(lines[-1]) + 1
        elif line == 1 and column is not None:
            column = max(1, column - len(self._before))
        kind, text = failure("syntax", message)
        return kind, json.dumps({"message": text, "line": line, "column": column})
