"""Did you mean: what was probably meant by a name that nobody knows. Pure, and bounded in what it compares.

Two names are alike when they differ in one place only, and there in a few characters: that is what slips of the
fingers do (a letter too many, too few, another one, two in the wrong order), and a comparison costs next to nothing.
So is a name that stops in the middle of a longer one.
"""

from __future__ import annotations

from collections.abc import Iterable

#: How many names are compared in all for one input, how long they may be, and how they may differ in one place.
COMPARED_MAX = 2_000
CHARS_MAX = 64
APART_CHARS_MAX = 3
#: Of so many characters of a name, one may differ.
CHARS_PER_SLIP = 3
#: How much of a longer name must be there.
BEGINNING_CHARS_MIN = 4


class Suggestions:
    """Names that are known, to be compared with those that are not. Upper and lower case are alike."""

    def __init__(self, known: Iterable[str], compared_max: int = COMPARED_MAX) -> None:
        self._known = [(name.casefold(), name) for name in known if len(name) <= CHARS_MAX]
        self._left = compared_max

    def closest(self, name: str) -> str | None:
        """The one that is most like a name; None where none is, or when too many have been compared already."""
        if not name or len(name) > CHARS_MAX:
            return None
        folded = name.casefold()
        found: tuple[int, str] | None = None
        for other, known in self._known:
            if not self._left:
                break
            self._left -= 1
            apart = _apart(folded, other)
            if apart is not None and (found is None or apart < found[0]):
                found = apart, known
        return None if found is None else found[1]

    def hint(self, name: str) -> str:
        """The end of a sentence about a name that is not known, or nothing."""
        closest = self.closest(name)
        return "" if closest is None else f"; did you mean {closest!r}?"


def _apart(name: str, known: str) -> int | None:
    """By how much two names differ, None if they are not alike."""
    if known.startswith(name) and len(name) >= BEGINNING_CHARS_MIN:
        return len(known) - len(name)
    if name != known and (len(name) < CHARS_PER_SLIP or abs(len(name) - len(known)) > APART_CHARS_MAX):
        return None
    before = _same(name, known)
    after = _same(name[before:][::-1], known[before:][::-1])
    one, other = name[before : len(name) - after], known[before : len(known) - after]
    apart = max(len(one), len(other))
    if len(one) == 2 and one == other[::-1]:
        apart = 1
    return apart if apart <= min(APART_CHARS_MAX, len(name) // CHARS_PER_SLIP) or not apart else None


def _same(one: str, other: str) -> int:
    """With how many characters both begin."""
    for at, (char, its) in enumerate(zip(one, other, strict=False)):
        if char != its:
            return at
    return min(len(one), len(other))
