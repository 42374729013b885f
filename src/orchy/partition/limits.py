"""How often the loops of an owner run, and how much they handle at once. Frozen, and passed in."""

from __future__ import annotations

import attrs


@attrs.frozen
class LeaseTiming:
    """How leases of partitions are kept."""

    lease_ms: int = 10_000
    renew_seconds: float = 2.5
    #: How often a missing lease is asked for: so soon after a change, then less and less often, down to this.
    ask_again_first_seconds: float = 0.1
    ask_again_seconds: float = 1.0
    #: How long the store may be silent before this node says that it can't work.
    silence_max_seconds: float = 5.0
    #: Most time spent on giving up the leases at the end.
    release_seconds: float = 2.0


#: By gossip profile: a lease should not outlive the discovery of its owner's death by much.
LEASE_TIMINGS = {
    "default": LeaseTiming(),
    "fast": LeaseTiming(lease_ms=5_000, renew_seconds=1.25, ask_again_seconds=0.5),
}


@attrs.frozen
class TimerLimits:
    """How many timers are handled at once."""

    #: Taken from one partition by one scan.
    per_scan_max: int = 25
    #: Handled concurrently.
    firing_max: int = 200
    #: Leases of workers looked into concurrently; those beyond come again after `TimerTiming.lease_ms`.
    losing_max: int = 1_000


@attrs.frozen
class TimerTiming:
    """When partitions are scanned for timers."""

    #: Between two scans of a partition, at most.
    scan_seconds: float = 1.0
    #: How long a timer that was taken is kept from others.
    lease_ms: int = 10_000
    #: Pause after a scan that failed.
    retry_seconds: float = 0.5
    #: A timer due within this time is taken by the scan that is made now.
    soon_seconds: float = 0.001


@attrs.frozen
class RetentionTiming:
    """How flows that ended long enough ago are removed."""

    scan_seconds: float = 10.0
    #: Removed from one partition by one call.
    flows_per_call: int = 20
    #: Between two calls while there is more to remove, so that other work gets its turn.
    pause_seconds: float = 0.02


TIMER_LIMITS = TimerLimits()
TIMER_TIMING = TimerTiming()
RETENTION_TIMING = RetentionTiming()
