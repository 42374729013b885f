"""The sizes and rates of a seed's world, and the faults that can happen in it.

Each seed has only some kinds of faults ("swarm testing", Groce et al. 2012): a fault that is always present can hide
what another one would reveal.
"""

from __future__ import annotations

import random

import attrs

#: The kinds of faults that the nemesis injects, one at a time or together.
FAULTS = (
    "crash",
    "crash in a store call",
    "restart",
    "freeze",
    "freeze in a store call",
    "store cut",
    "store slow",
    "false suspicion",
    "false death",
    "one-way cut",
)


@attrs.frozen
class Profile:
    """Sizes, rates (0 to 1, per call or message) and times in virtual seconds."""

    nodes: int
    partitions: int
    workers: int
    workflows: int
    flows: int
    fault_seconds: float
    faults: tuple[str, ...]
    between_faults_seconds: float
    answers_lost: float
    wakeups_lost: float
    wakeups_doubled: float
    calls_lost: float
    store_delay_seconds: float
    worker_deaths: float
    worker_failures: float
    late_results: float
    doubled_results: float
    commands: float
    retention_seconds: float
    removals: bool = False
    stream_workers: int = 0
    batch_size: int = 3  # small, so that the limit is reached
    bursts: int = 0  # crowds of clients that send events to one flow at the same moment
    burst_events: int = 4  # events of a burst, at most
    callers_leave: float = 0.0  # in the middle of a call, which is not a fault
    batches: float = 0.0  # of starts, and of results
    sound: bool = False  # nothing ever breaks

    @classmethod
    def draw(cls, rng: random.Random) -> Profile:
        """Draw a world."""

        def rate(most: float) -> float:
            return rng.choice((0.0, most / 5, most))

        profile = cls(
            nodes=rng.choice((1, 2, 3, 3, 3, 4)),
            partitions=rng.choice((2, 4, 4, 7)),
            workers=rng.randint(1, 3),  # those that poll
            workflows=rng.randint(1, 3),
            flows=rng.randint(2, 8),
            fault_seconds=rng.choice((20.0, 30.0, 45.0)),
            faults=tuple(fault for fault in FAULTS if rng.random() < 0.4),
            between_faults_seconds=rng.choice((1.0, 3.0, 8.0)),
            answers_lost=rate(0.1),
            wakeups_lost=rate(0.5),
            wakeups_doubled=rate(0.5),
            calls_lost=rate(0.2),
            store_delay_seconds=rng.choice((0.0, 0.001, 0.02, 0.2)),
            worker_deaths=rate(0.2),
            worker_failures=rate(0.3),
            late_results=rate(0.3),
            doubled_results=rate(0.5),
            commands=rate(0.6),
            retention_seconds=rng.choice((3600.0, 3600.0, 3600.0, 15.0)),
            removals=rng.random() < 0.2,
            stream_workers=rng.choice((0, 1, 1, 2)),
            sound=rng.random() < 0.15,
            bursts=rng.choice((0, 1, 2)),
            callers_leave=rate(0.4),
            batches=rate(0.8),
        )
        if profile.batches:
            profile = attrs.evolve(profile, flows=profile.flows + 4)
        if rng.random() < 0.3:
            profile = attrs.evolve(
                profile,
                batch_size=40,
                bursts=max(1, profile.bursts),
                burst_events=40,
                callers_leave=0.4,
                store_delay_seconds=rng.choice((0.02, 0.2)),
            )
        if not profile.sound:
            return profile
        sound = attrs.evolve(profile, faults=(), answers_lost=0.0, calls_lost=0.0, late_results=0.0)
        return attrs.evolve(sound, worker_deaths=0.2)  # workers may die in a sound world too
