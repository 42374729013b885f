"""The parameters of the protocol, and how some of them grow with the cluster.

Sources: SWIM (Das, Gupta, Motivala, DSN 2002), Lifeguard (Dadgar, Phillips, Currey, DSN 2018). What a profile
changes is in PROFILES; everything else is the same for all.
"""

from __future__ import annotations

import math

import attrs


@attrs.frozen
class Parameters:
    """Times in seconds of virtual or real time."""

    #: One member is probed in each interval.
    probe_interval_seconds: float = 1.0
    #: How long a direct ping may take before others are asked to ping.
    ping_timeout_seconds: float = 0.5
    #: The ping is repeated after this part of its timeout: one lost datagram should not involve other members.
    second_ping_fraction: float = 0.4
    #: A relay without an ack sends a nack after this part of the timeout, while the asker still waits.
    nack_fraction: float = 0.8
    #: How many members are asked to ping one that did not answer.
    indirect_members: int = 3
    #: A suspicion lasts at least multiplier x log10(n) x probe interval, at most max_factor times that.
    suspicion_multiplier: int = 5
    suspicion_max_factor: int = 6
    #: Updates are gossiped to so many members at a time, at most so often.
    gossip_interval_seconds: float = 0.2
    gossip_members: int = 3
    #: A dead member still gets gossip for so long, so that a living one can object.
    gossip_to_dead_seconds: float = 30.0
    #: Each update is sent multiplier x ceil(log10(n + 1)) times by each member.
    retransmit_multiplier: int = 4
    #: Whole tables are compared so often; above sync_stretch_members nodes less often.
    sync_interval_seconds: float = 30.0
    sync_stretch_members: int = 32
    #: How often a dead member (or one that only a registry knows) is tried again.
    reconnect_interval_seconds: float = 30.0
    #: The delay of the next sync after one that found members that only one side thinks dead.
    heal_seconds: float = 2.0
    #: How long the dead and those that left are remembered, so that outdated news about them are recognised.
    forget_seconds: float = 24 * 3600.0
    #: First and longest pause between attempts to join.
    join_backoff_seconds: float = 0.5
    join_backoff_max_seconds: float = 15.0
    #: How long one exchange over a stream may take.
    stream_timeout_seconds: float = 5.0
    #: The worst local health score (Lifeguard, section 4.1).
    awareness_max: int = 7
    #: A timer that fires this late means that this process itself is slow.
    lag_seconds: float = 0.25
    #: A member whose host refuses is pinged again so often, and must be refused for so long to count as dead.
    refusal_probe_seconds: float = 0.25
    refusal_seconds: float = 0.5
    #: Evidence that has not led to a death by then is dropped; the usual probes go on meanwhile.
    refusal_case_seconds: float = 3.0
    #: How many members at a time are told that one is refused, so that they check it themselves.
    refusal_members: int = 8
    #: Largest datagram, with its envelope.
    packet_bytes: int = 1_200
    #: False: SWIM as of 2002, without local health, nacks, buddies and suspicions that adapt. For comparison.
    lifeguard: bool = True

    def retransmits(self, members: int) -> int:
        """How many times each member sends one update."""
        return self.retransmit_multiplier * math.ceil(math.log10(members + 1))

    def suspicion_seconds(self, members: int) -> float:
        """How long a suspicion lasts at least."""
        return self.suspicion_multiplier * max(1.0, math.log10(max(1, members))) * self.probe_interval_seconds

    def sync_seconds(self, members: int) -> float:
        """The interval of whole-table syncs."""
        if members <= self.sync_stretch_members:
            return self.sync_interval_seconds
        stretch = math.ceil(math.log2(members) - math.log2(self.sync_stretch_members)) + 1
        return self.sync_interval_seconds * stretch


#: `default` suits a data centre; `fast` one host or one rack.
PROFILES = {
    "default": Parameters(),
    "fast": Parameters(
        probe_interval_seconds=0.5, ping_timeout_seconds=0.2, gossip_interval_seconds=0.1, lag_seconds=0.1
    ),
}

# Limits of what a peer can make this node keep or send.
MEMBERS_MAX = 16_384
META_BYTES_MAX = 512
NAME_BYTES_MAX = 255
HOST_BYTES_MAX = 255
LABEL_BYTES_MAX = 255
INCARNATION_MAX = 2**32 - 1
#: Incarnations begin at the time of day in seconds. One that is further ahead of a member's own clock than this is not
#: believed, so that nobody can use up a name's incarnations; the clocks of all hosts must agree to within as much.
INCARNATION_AHEAD_MAX = 24 * 3600
#: How many members that are not vouched for yet wait at a time, and how long each.
UNVOUCHED_MAX = 64
UNVOUCHED_SECONDS = 30.0
STORE_BYTES_MAX = 1_024
RELAYS_MAX = 1_024
#: How many refusing members are investigated at the same time; others are left to the usual probes.
REFUSAL_CASES_MAX = 64
FRAME_BYTES_MAX = 8 * 2**20
