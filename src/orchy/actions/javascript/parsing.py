"""Parses a script without running it. Runs in a worker process: standard library only.

Both engines parse a whole script before they run it. So the script is evaluated as usual, but after a statement that
throws: the exception is either that, or the script's SyntaxError. Wrapping it in a function instead would accept
scripts that are invalid on their own: `return` would be allowed, and an extra brace would end the function.
"""

from __future__ import annotations

import json
import re

from orchy.actions.javascript.failures import NO_VALUE, Answer, failure

#: What is thrown when the whole script has been parsed.
PARSED = "0"
_THROW = f"throw {PARSED};"
_STRICT = re.compile(
    r"""(?:\s|//[^\n]*+\n|/\*(?:[^*]|\*(?!/))*+\*/)*+("use\ strict"|'use\ strict')[^\S\n]*+(?=[;\n]|\Z)""", re.VERBOSE
)


class Parse:
    """The text for the engine to evaluate, and the meaning of its SyntaxError for the script."""

    def __init__(self, script: str) -> None:
        self._script = script
        # "use strict" counts only at the very beginning, so it has to be repeated before the throw.
        self._before = f'"use strict";{_THROW}' if _STRICT.match(script) else _THROW
        if script.startswith("#!"):  # valid on the first line only
            script = "//" + script[2:]
        self.text = self._before + script + NO_VALUE

    def failure(self, message: str, line: int | None, column: int | None) -> Answer:
        """Why the script can't be parsed, and where in the script."""
        lines = self._script.split("\n")
        if line is not None and line > len(lines):  # in the appended text
            message, line, column = "SyntaxError: unexpected end of the script", len(lines), len(lines[-1]) + 1
        elif line == 1 and column is not None:
            column = max(1, column - len(self._before))
        kind, text = failure("syntax", message)
        return kind, json.dumps({"message": text, "line": line, "column": column})
