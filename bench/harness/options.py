"""What a run is asked for."""

from __future__ import annotations

import attrs


@attrs.frozen
class Options:
    """`flows` is how many finished flows *million* puts into the store. `quick`: a look, with small counts."""

    appendfsync: str = "everysec"
    flows: int = 1_000_000
    quick: bool = False

    def count(self, full: int, quick: int) -> int:
        """How many."""
        return quick if self.quick else full

    @property
    def runs(self) -> int:
        """How many measurements a median is of."""
        return self.count(5, 2)
