"""Suggests what was probably meant by an unknown name. Pure, and bounded in what it compares.

Two names are similar if they differ in one place only, and there in a few characters: this covers the usual typos (a
letter too many, missing, wrong, or two swapped), and is cheap to compare. A beginning of a longer name is similar, too.
"""

from __future__ import annotations

from collections.abc import Iterable

#: How many comparisons are made for one input, of names up to which length, and in how many characters they may differ.
COMPARED_MAX = 2_000
CHARS_MAX = 64
DISTANCE_MAX = 3
#: One character may differ for each so many of the name.
CHARS_PER_TYPO = 3
#: The shortest beginning of a longer name that is similar to it.
BEGINNING_CHARS_MIN = 4


class Suggestions:
    """Known names, to be compared with unknown ones without regard to case."""

    def __init__(self, known: Iterable[str], compared_max: int = COMPARED_MAX) -> None:
        self._known = [(name.casefold(), name) for name in known if len(name) <= CHARS_MAX]
        self._left = compared_max

    def closest(self, name: str) -> str | None:
        """The known name that is most similar; None if none is, or too many have been compared already."""
        if not name or len(name) > CHARS_MAX:
            return None
        folded = name.casefold()
        found: tuple[int, str] | None = None
        for other, known in self._known:
            if not self._left:
                break
            self._left -= 1
            distance = _distance(folded, other)
            if distance is not None and (found is None or distance < found[0]):
                found = distance, known
        return None if found is None else found[1]

    def hint(self, name: str) -> str:
        """The end of a sentence about an unknown name: what was probably meant; or nothing."""
        closest = self.closest(name)
        return "" if closest is None else f"; did you mean {closest!r}?"


def _distance(name: str, known: str) -> int | None:
    """How many characters differ between two names; None if they are not similar."""
    if known.startswith(name) and len(name) >= BEGINNING_CHARS_MIN:
        return len(known) - len(name)
    if name != known and (len(name) < CHARS_PER_TYPO or abs(len(name) - len(known)) > DISTANCE_MAX):
        return None
    before = _common_prefix(name, known)
    after = _common_prefix(name[before:][::-1], known[before:][::-1])
    one, other = name[before : len(name) - after], known[before : len(known) - after]
    distance = max(len(one), len(other))
    if len(one) == 2 and one == other[::-1]:
        distance = 1
    return distance if distance <= min(DISTANCE_MAX, len(name) // CHARS_PER_TYPO) or not distance else None


def _common_prefix(one: str, other: str) -> int:
    """The length of the common prefix."""
    for at, (char, its) in enumerate(zip(one, other, strict=False)):
        if char != its:
            return at
    return min(len(one), len(other))
