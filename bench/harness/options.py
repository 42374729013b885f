"""The options of a run that the pieces know."""

from __future__ import annotations

import attrs


@attrs.frozen
class Options:
    """`flows` is how many finished flows *million* puts into the store. `quick` means small counts."""

    appendfsync: str = "everysec"
    flows: int = 1_000_000
    quick: bool = False

    def count(self, full: int, quick: int) -> int:
        """The count to use, `quick` or not."""
        return quick if self.quick else full

    @property
    def runs(self) -> int:
        """How many measurements each median is taken from."""
        return self.count(5, 2)
