"""How long the loops of the cluster wait, and how much they remember. Frozen, and passed in."""

from __future__ import annotations

import attrs


@attrs.frozen
class ClusterTiming:
    """When partitions move."""

    #: How long a burst of changes among the members may settle before partitions move.
    debounce_seconds: float = 1.0
    #: How often readiness and ownership are worked out anew when no member changes.
    refresh_seconds: float = 2.0
    #: How often this node looks for leases that nobody renews. The first in line adopts a partition after so many
    #: looks in a row that found it without a holder.
    adopt_look_seconds: float = 5.0
    adopt_looks: int = 2
    #: How long an adopted partition is kept before its owner gets another chance.
    adopted_seconds: float = 30.0
    #: How long after the debounce of other nodes they are ready to take the partitions of one that stops.
    handover_margin_seconds: float = 0.3
    #: How long the leases of a node that stops may take to be released.
    release_seconds: float = 2.0

    @property
    def handover_seconds(self) -> float:
        """From a node's goodbye to when the others want its partitions."""
        return self.debounce_seconds + self.handover_margin_seconds


@attrs.frozen
class MembershipTiming:
    """How long a node waits for the gossip at its start and its end."""

    #: For the first answer to a join: a refusal should be known before the node listens for clients.
    first_join_seconds: float = 1.0
    first_join_check_seconds: float = 0.02
    #: For the others to hear the goodbye.
    farewell_seconds: float = 2.0
    farewell_check_seconds: float = 0.05


@attrs.frozen
class RegistryTiming:
    """How a node keeps its name in the store's list of nodes."""

    lease_ms: int = 15_000
    renew_seconds: float = 5.0
    #: The list is read again when an unlisted node appears, but not more often than this.
    read_again_seconds: float = 0.5
    #: How long a registration that has disappeared still counts. After an outage of the store, or a loss of its data,
    #: each node registers again within `renew_seconds`.
    grace_seconds: float = 10.0
    #: How often a name that is held by somebody else is tried again.
    retry_seconds: float = 0.5
    unregister_seconds: float = 1.0
    #: How many registrations, former ones included, are remembered.
    remembered_max: int = 4_096


@attrs.frozen
class JoinTiming:
    """How a node without --redis-addr asks others where the store is."""

    #: A node that is among its own seeds starts the cluster if no other seed has answered by then.
    first_node_seconds: float = 3.0
    #: For one round of questions, and between two of them.
    ask_seconds: float = 2.0
    ask_again_seconds: float = 0.2
    #: Between two log lines that say what this node waits for.
    log_again_seconds: float = 10.0


CLUSTER_TIMING = ClusterTiming()
MEMBERSHIP_TIMING = MembershipTiming()
REGISTRY_TIMING = RegistryTiming()
JOIN_TIMING = JoinTiming()
