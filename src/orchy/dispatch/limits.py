"""How much the dispatcher and the offers handle at once, and how long they wait. Frozen, and passed in."""

from __future__ import annotations

import attrs


@attrs.frozen
class DispatchLimits:
    """Bounds on what is asked, remembered and sent."""

    #: Partitions in one claim; the next claim asks the others.
    partitions_per_claim: int = 32
    #: Actions with offers of other nodes that are remembered, and actions whose last empty poll is.
    offered_actions_max: int = 1_000
    #: Nodes that hear of one action in each round of offers, and datagrams in a round.
    nodes_per_offer: int = 16
    offers_max: int = 64
    #: Partitions named in one message.
    partitions_per_offer: int = 32
    #: Actions for which this node remembers which nodes have takers.
    taken_actions_max: int = 1_000


@attrs.frozen
class DispatchTiming:
    """All in seconds."""

    #: Most time spent on returning attempts whose client has gone.
    give_back_seconds: float = 10.0
    #: Pause after a claim for a stream failed.
    claim_again_seconds: float = 1.0
    #: How long an offer is valid: long enough for somebody who polls once a second.
    offered_seconds: float = 5.0
    #: After an empty poll, another one is expected within this time.
    asked_seconds: float = 2.5
    #: Between two rounds of offers for work that nobody takes.
    offer_seconds: float = 0.5
    #: Between two offers to nodes with takers, so that a burst of work shares a message.
    soon_seconds: float = 0.01
    #: How long a node counts as having takers for an action.
    taker_seconds: float = 10.0


LIMITS = DispatchLimits()
TIMING = DispatchTiming()
