"""Paths into a flow's context, compiled once: the inside of an expression's braces.

Most paths are plain keys and indexes, ``$.1.output.user['first name'][0]``, and are followed here. Anything more
(filter, wildcard, slice, descent, arithmetic, sorting) is JSONPath as `jsonpath_ng.ext` implements it, applied to the
value that the plain prefix of the path leads to, or to the whole context if the rest of the path names `$` again.

Keys are looked up in objects only, indexes in lists only. Values that are found are shared with the flow, never copied.
"""

from __future__ import annotations

import re
from functools import lru_cache
from threading import Lock
from typing import Any, Final, TypeAlias

import attrs
import re2
from jsonpath_ng.ext.parser import parse as parse_jsonpath

from orchy.flow.budget import METER, OverBudget
from orchy.flow.definition import JSON
from orchy.flow.expressions.metered import restrict
from orchy.flow.system import Context

#: The longest path, in characters, and the most steps in one.
PATH_CHARS_MAX = 4_096
PATH_STEPS_MAX = 100
#: How many compiled paths are cached.
PATHS_CACHED_MAX = 2_000

#: Stands for a path that finds nothing, as None is a value.
MISSING: Final = object()

Steps: TypeAlias = tuple[str | int, ...]

#: Large definitions are parsed in a thread, and the library's parser is not documented to be thread-safe.
_PARSING = Lock()


class PathError(ValueError):
    """A path that can't be parsed. The message completes a sentence that begins with the path."""


@attrs.frozen
class Path:
    """Plain steps, and the library's query from there on, if any.

    With `many`, `query` always gives a list, whatever it finds; otherwise one value or none.
    """

    steps: Steps
    query: Any = attrs.field(default=None, eq=False)
    many: bool = False

    def find(self, context: Context) -> tuple[JSON, bool]:
        """The value (None if there is none), and whether the path found one. Raises OverBudget."""
        value = follow(self.steps, context)
        if self.query is None:
            return (None, False) if value is MISSING else (value, True)
        if value is MISSING:
            return ([] if self.many else None), False
        before = METER.set(context.meter)
        try:
            found = [match.value for match in self.query.find(value)]
        except OverBudget:
            raise
        except Exception:  # a value of a type that a node does not expect: each raises something else
            return None, False
        finally:
            METER.reset(before)
        if self.many:
            return found, True
        return (found[0], True) if found else (None, False)


def follow(steps: Steps, context: Context) -> JSON:
    """The value that plain steps lead to, beginning with a key of the context; MISSING if there is none."""
    if not steps:
        return context.as_json()
    key = steps[0]
    if not isinstance(key, str):
        return MISSING
    value = context.get(key)
    if value is None and not context.has(key):
        return MISSING
    for step in steps[1:]:
        if isinstance(step, str):
            if not isinstance(value, dict):
                return MISSING
            value = value.get(step, MISSING)
            if value is MISSING:
                return MISSING
        elif isinstance(value, list) and -len(value) <= step < len(value):
            value = value[step]
        else:
            return MISSING
    return value


@lru_cache(PATHS_CACHED_MAX)
def compile_path(path: str) -> Path:
    """Compile a path that begins with `$`. Raises PathError."""
    if len(path) > PATH_CHARS_MAX:
        raise PathError(f"is longer than {PATH_CHARS_MAX} characters")
    if re.match(r"\$[0-9]", path):
        path = f"$.{path[1:]}"
    if path in ("$", "$."):
        raise PathError("names nothing: say which value of $ is meant, such as $.input")
    if path[1] not in ".[":
        raise PathError("has neither '.' nor '[' after its $")
    if sum(map(path.count, ".[")) > PATH_STEPS_MAX and len(_BREAK.findall(_QUOTED.sub("''", path))) > PATH_STEPS_MAX:
        raise PathError(f"has more than {PATH_STEPS_MAX} steps")
    steps, rest = _plain_beginning(path[1:])
    if not rest:
        return Path(steps)
    if "$" in (bare := _QUOTED.sub("''", rest)) or "`" in bare:
        # It may refer to the root or to a parent, so it has to start at the root.
        rest = "".join(map(_bracketed, steps)) + rest
        steps = ()
    try:
        with _PARSING:
            query = parse_jsonpath("$" + _quote_names(rest))
    except Exception as error:  # lexer, parser and operators raise different types, some plain Exception
        why = re.sub(r" at \d+:\d+", "", str(error))  # positions count from the rest of the path, not from its start
        raise PathError(f"is not a JSONPath: {why}") from error
    try:
        restrict(query)
    except re2.error as error:
        raise PathError(f"has a regular expression that is none of RE2's: {_text(error)}") from None
    except ValueError as error:
        raise PathError(str(error)) from None
    return Path(steps, query, _gives_many(query))


_QUOTED = re.compile(r"""'(?:[^'\\]++|\\.)*+'|"(?:[^"\\]++|\\.)*+\"""", re.DOTALL)
_BREAK = re.compile(r"[.\[]")
_STEP = re.compile(
    r"""\.(?P<name>[^\s.\[\]'"{}*?@()$,:+/|&~=<>!`\\]+)
      | \[\s*(?P<index>-?[0-9]{1,9})\s*\]
      | \.?\[\s*(?P<key>'(?:[^'\\]++|\\.)*+'|"(?:[^"\\]++|\\.)*+")\s*\]
      | \.(?P<quoted>'(?:[^'\\]++|\\.)*+'|"(?:[^"\\]++|\\.)*+")""",
    re.VERBOSE | re.DOTALL,
)


def _plain_beginning(path: str) -> tuple[Steps, str]:
    """The leading plain steps of a path, and the rest of its text."""
    steps: list[str | int] = []
    at = 0
    while at < len(path):
        match = _STEP.match(path, at)
        if match is None:
            break
        name, index, key, quoted = match.group("name", "index", "key", "quoted")
        if name is not None:
            steps.append(name)
        elif index is not None:
            steps.append(int(index))
        else:
            steps.append(re.sub(r"\\(.)", r"\1", (key or quoted)[1:-1], flags=re.DOTALL))
        at = match.end()
    return tuple(steps), path[at:]


def _bracketed(step: str | int) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    return "['" + step.replace("\\", "\\\\").replace("'", "\\'") + "']"


_NAME_IN_QUERY = re.compile(
    r"""(?P<keep>'(?:[^'\\]++|\\.)*+' | "(?:[^"\\]++|\\.)*+" | `[^`]*` | [^\W\d][\w-]* | -?\d+(?:\.\d+)?)
      | \.(?P<name>[\w-]+)""",
    re.VERBOSE | re.DOTALL,
)


def _quote_names(query: str) -> str:
    """Quote the names in a query that the library would take for numbers or refuse."""

    def quote(match: re.Match[str]) -> str:
        name = match.group("name")
        if name is None or re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]*", name):
            return match.group()
        return f".'{name}'"

    return _NAME_IN_QUERY.sub(quote, query)


#: The library's nodes that can find several values. By name, as its versions keep them in different places.
_MANY = frozenset(
    {
        "Descendants",
        "Filter",
        "Intersect",
        "Keys",
        "Slice",
        "Union",
        "Where",
        "WhereNot",
        "Wildcard",
        "_Intersect",
        "_Union",
    }
)


def _gives_many(query: Any) -> bool:
    """Whether a query can find more than one value."""
    left = [query]
    while left:
        part = left.pop()
        if type(part).__name__ in _MANY:
            return True
        chosen = getattr(part, "fields", None) or getattr(part, "indices", None)
        if chosen is not None and (len(chosen) != 1 or chosen[0] == "*"):
            return True
        left.extend(getattr(part, side) for side in ("left", "right") if hasattr(part, side))
    return False


def _text(error: Exception) -> str:
    (text,) = error.args
    return text.decode(errors="replace") if isinstance(text, bytes) else str(text)
