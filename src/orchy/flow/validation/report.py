"""Collects what is wrong with an input while it is read, and gives `Problem`s in the order of the text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import TypeVar

import attrs

from orchy.errors import Problem
from orchy.flow.definition import JSON
from orchy.flow.json.scan import Where
from orchy.flow.json.text import Lines, locate, pointer
from orchy.flow.validation.suggestions import Suggestions

#: How many errors, and how many warnings, are reported for one input.
PROBLEMS_MAX = 1_000
#: For how many unknown names of one input a suggestion is looked for.
HINTS_MAX = 50

_Choice = TypeVar("_Choice", bound=StrEnum)


@attrs.frozen
class Reported:
    """One problem: where it is, and whether it concerns the key there rather than the value."""

    message: str
    where: Where
    at_key: bool = False


@attrs.define
class Report:
    """All problems found so far. The first PROBLEMS_MAX errors and warnings are kept, the rest is counted."""

    errors: list[Reported] = attrs.field(factory=list)
    warnings: list[Reported] = attrs.field(factory=list)
    error_count: int = 0
    warning_count: int = 0
    _hints_left: int = HINTS_MAX

    def error(self, message: str, where: Where, *, at_key: bool = False) -> None:
        """The input can't be accepted."""
        self.error_count += 1
        if len(self.errors) < PROBLEMS_MAX:
            self.errors.append(Reported(message, where, at_key))

    def warning(self, message: str, where: Where, *, at_key: bool = False) -> None:
        """The input can be accepted, but probably does not mean what it says."""
        self.warning_count += 1
        if len(self.warnings) < PROBLEMS_MAX:
            self.warnings.append(Reported(message, where, at_key))

    def hint(self, name: str, known: Suggestions) -> str:
        """The end of a sentence about an unknown name: what was probably meant; or nothing."""
        if not self._hints_left:
            return ""
        self._hints_left -= 1
        return known.hint(name)

    def problems(self, text: str | None) -> tuple[tuple[Problem, ...], tuple[Problem, ...]]:
        """Errors and warnings; with lines and columns if the input's text is given."""
        errors, warnings = self.errors, self.warnings
        places = (
            locate(text, {reported.where for reported in (*errors, *warnings)}) if text and (errors or warnings) else {}
        )

        lines = Lines(text or "")

        def located(reports: list[Reported], all_of_them: int) -> Iterator[Problem]:
            offsets = {}
            for reported in reports:
                place = places.get(reported.where)
                offsets[reported] = -1 if place is None else place.key if reported.at_key else place.value
            for reported in sorted(reports, key=offsets.__getitem__):
                offset = offsets[reported]
                line, column = (None, None) if text is None or offset < 0 else lines.place(offset)
                yield Problem(reported.message, pointer(reported.where), line, column)
            if all_of_them > len(reports):
                yield Problem(f"and {all_of_them - len(reports)} more")

        return tuple(located(errors, self.error_count)), tuple(located(warnings, self.warning_count))


class Fields:
    """The fields of one JSON object, read by name and type. A field of the wrong type is reported as an error.

    null means absent, so that clients may send all their fields. Reading a field gives None if it is absent or wrong;
    `sound` says whether all fields read so far were right.
    """

    def __init__(self, source: Mapping[str, JSON], where: Where, subject: str, report: Report) -> None:
        self.source = source
        self.where = where
        self.subject = subject
        self.sound = True
        self._report = report
        self._known: set[str] = set()

    def error(self, message: str, field: str | None = None, *, at_key: bool = False) -> None:
        """Report an error in a field, or in the whole object."""
        self.sound = False
        self._report.error(message, self.where if field is None else (*self.where, field), at_key=at_key)

    def read(self, field: str, types: tuple[type, ...], *, required: bool = False) -> JSON:
        """The value of a field, which must be of one of `types`. A boolean is not a number."""
        self._known.add(field)
        value = self.source.get(field)
        if value is None:
            if required:
                self.error(f"{self.subject} needs the field {field!r}")
            return None
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            self.error(f"{field} must be {_names(types)}, not {kind_of(value)}", field)
            return None
        return value

    def text(self, field: str, *, required: bool = False) -> str | None:
        """A text."""
        value = self.read(field, (str,), required=required)
        return value if isinstance(value, str) else None

    def choice(self, field: str, choices: type[_Choice], *, required: bool = False) -> _Choice | None:
        """One of a few words, in any case."""
        text = self.text(field, required=required)
        if text is None:
            return None
        for choice in choices:
            if choice.casefold() == text.casefold():
                return choice
        self.error(f"{field} must be {_either(choices)}, not {text[:80]!r}", field)
        return None

    def number(self, field: str, low: float, high: float, *, whole: bool = False) -> float | None:
        """A number from `low` to `high`."""
        value = self.read(field, (int,) if whole else (int, float))
        if not isinstance(value, int | float):
            return None
        if not low <= value <= high:
            self.error(f"{field} must be from {low:,} to {high:,}, not {value!r:.40}", field)
            return None
        return value

    def unknown(self) -> list[str]:
        """The fields that were never read."""
        return [field for field in self.source if field not in self._known]

    def hint(self, field: str) -> str:
        """The end of a sentence about an unknown field: what was probably meant; or nothing."""
        return self._report.hint(field, Suggestions(self._known - self.source.keys()))


_TYPE_NAMES: dict[type, str] = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
    type(None): "null",
}


def kind_of(value: JSON) -> str:
    """What a JSON value is, in words."""
    if isinstance(value, bool):
        return "a boolean"
    return "the number " + repr(value) if isinstance(value, float) else _TYPE_NAMES[type(value)]


def _names(types: tuple[type, ...]) -> str:
    return " or ".join(_TYPE_NAMES[type_] for type_ in types if not (type_ is int and float in types))


def _either(choices: type[StrEnum]) -> str:
    return " or ".join(repr(choice.value) for choice in choices)
