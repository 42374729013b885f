"""What the network of the simulator does to datagrams."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import attrs


@attrs.define
class Network:
    """Probabilities are from 0 to 1. One way takes `delay_seconds` and an exponential jitter of mean
    `jitter_seconds`.
    """

    loss: float = 0.0
    duplication: float = 0.0
    delay_seconds: float = 0.0002
    jitter_seconds: float = 0.0003
    #: Probability that a datagram is delayed by up to `reorder_seconds` more.
    reordering: float = 0.0
    reorder_seconds: float = 0.05
    #: (source, target) hosts between which nothing passes, for each direction.
    cuts: set[tuple[str, str]] = attrs.field(factory=set)

    def cut(self, sources: Iterable[str], targets: Collection[str]) -> None:
        """Drop all packets from these hosts to those, in this direction only."""
        self.cuts |= {(source, target) for source in sources for target in targets if source != target}

    def heal(self) -> None:
        """Remove all cuts."""
        self.cuts.clear()
