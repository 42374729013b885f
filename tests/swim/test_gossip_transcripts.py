"""The behaviour of one member as transcripts of its inputs and outputs; `transcript.py` explains the lines."""

from __future__ import annotations

from orchy.swim.messages import State
from tests.swim.transcript import record, transcript


def test_a_member_that_answers_nobody_is_suspected():
    """Both pings, the indirect pings and the stream get no answer."""
    machine = transcript(
        """
        0.00 -> a: ping #1 a
        0.20 -> a: ping #1 a
        0.50 -> b: ask #1 a
        0.50 => a: ping #1 a
        1.00 ** suspected a by me
        1.00 -> b: ping #2 b, suspect a 1 by me
        """,
        1.0,
    )
    assert machine.get("a").state is State.SUSPECT


def test_an_ack_at_the_first_ping_ends_the_probe():
    """Nothing more is sent in this interval."""
    machine = transcript(
        """
        0.00 -> a: ping #1 a
        0.05 <- a: ack #1
        """,
        0.9,
    )
    assert machine.round_trip_seconds("a") == 0.05


def test_the_second_ping_saves_a_lost_one():
    """One lost datagram involves no other member."""
    machine = transcript(
        """
        0.00 -> a: ping #1 a
        0.20 -> a: ping #1 a
        0.25 <- a: ack #1
        """,
        0.9,
    )
    assert machine.round_trip_seconds("a") is None  # of which of the two pings?


def test_an_ack_through_a_relay_counts():
    """The path between two members may be broken while both are well."""
    machine = transcript(
        """
        0.00 -> a: ping #1 a
        0.20 -> a: ping #1 a
        0.50 -> b: ask #1 a
        0.50 -> c: ask #1 a
        0.50 => a: ping #1 a
        0.70 <- b: ack #1
        1.00 -> b: ping #2 b
        1.05 <- b: ack #2
        """,
        1.9,
        others="abc",
    )
    assert machine.get("a").state is State.ALIVE


def test_an_ack_over_a_stream_counts():
    """UDP may be blocked where TCP is not."""
    machine = transcript(
        """
        0.00 -> a: ping #1 a
        0.20 -> a: ping #1 a
        0.50 -> b: ask #1 a
        0.50 => a: ping #1 a
        0.60 <= a: ack #1
        1.00 -> b: ping #2 b
        1.05 <- b: ack #2
        """,
        1.9,
    )
    assert machine.counts["acks over a stream"] == 1


def test_nacks_leave_the_local_health_unchanged():
    """All relays answer: the target is to blame, and the next interval has the usual length."""
    machine = transcript(
        """
        0.00 -> a: ping #1 a
        0.20 -> a: ping #1 a
        0.50 -> b: ask #1 a
        0.50 -> c: ask #1 a
        0.50 -> d: ask #1 a
        0.50 => a: ping #1 a
        0.90 <- b: nack #1
        0.91 <- c: nack #1
        0.92 <- d: nack #1
        1.00 ** suspected a by me
        1.00 -> b: ping #2 b, suspect a 1 by me
        1.05 <- b: ack #2
        2.00 -> c: ping #3 c
        """,
        2.1,
        others="abcd",
    )
    assert machine.health_score == 0


def test_missing_nacks_lower_the_local_health():
    """Two of three relays do not answer either: all timeouts become three times as long."""
    machine = transcript(
        """
        0.00 -> a: ping #1 a
        0.20 -> a: ping #1 a
        0.50 -> b: ask #1 a
        0.50 -> c: ask #1 a
        0.50 -> d: ask #1 a
        0.50 => a: ping #1 a
        0.90 <- b: nack #1
        1.00 ** suspected a by me
        1.00 -> b: ping #2 b, suspect a 1 by me
        1.60 -> b: ping #2 b
        2.50 -> c: ask #2 b
        2.50 -> d: ask #2 b
        2.50 => b: ping #2 b
        """,
        3.9,
        others="abcd",
    )
    assert machine.health_score == 2


def test_a_late_timer_lowers_the_local_health_and_an_ack_restores_it():
    """This process did not run for 0.9 s."""
    machine = transcript(
        """
        0.00 -> a: ping #1 a
        0.05 <- a: ack #1
        0.10 .. lag 1.4
        1.50 -> b: ping #2 b
        1.60 <- b: ack #2
        """,
        2.9,
    )
    assert machine.counts["late ticks"] == 1
    assert machine.health_score == 0


def test_a_relay_forwards_an_ack_or_sends_a_nack_in_time():
    """Two members ask for the same target; the first one gets no ack."""
    transcript(
        """
        0.00 -> a: ping #1 a
        0.01 <- a: ack #1
        0.10 <- a: ask #77 b
        0.10 -> b: ping #2 b
        0.20 <- c: ask #78 b
        0.20 -> b: ping #3 b
        0.30 <- b: ack #3
        0.30 -> c: ack #78
        0.50 -> a: nack #77
        """,
        0.9,
        others="abc",
    )


def test_independent_accusers_shorten_a_suspicion():
    """With one accuser it lasts 30 s, with four 5 s; before the end the suspect is pinged once more."""
    machine = transcript(
        """
        0.00 -> a: ping #1 a
        0.05 <- a: ack #1
        0.10 <- b: suspect e 1 by b
        0.10 ** suspected e by b
        1.00 -> b: ping #2 b
        1.05 <- b: ack #2
        1.10 <- c: suspect e 1 by c
        1.15 <- c: suspect e 1 by c
        1.20 <- d: suspect e 1 by d
        1.30 <- f: suspect e 1 by f
        2.00 -> c: ping #3 c
        2.05 <- c: ack #3
        3.00 -> d: ping #4 d
        3.05 <- d: ack #4
        4.00 -> e: ping #5 e, suspect e 1 by me
        4.20 -> e: ping #5 e, suspect e 1 by me
        4.50 -> a: ask #5 e
        4.50 -> f: ask #5 e
        4.50 -> d: ask #5 e
        4.50 => e: ping #5 e
        4.60 -> e: ping #6 e, suspect e 1 by me
        4.90 <- a: nack #5
        4.90 <- f: nack #5
        4.90 <- d: nack #5
        5.00 -> f: ping #7 f
        5.05 <- f: ack #7
        5.10 ** died e by me
        """,
        5.9,
        others="abcdef",
    )
    assert machine.get("e").state is State.DEAD


def test_better_health_does_not_end_a_suspicion_before_its_last_ping_can_be_answered():
    """With bad health it would end at 10.1; an ack improves the health, and the end would have been at 5.1."""
    machine = transcript(
        """
        0.00 -> a: ping #1 a
        0.05 <- a: ack #1
        0.10 <- a: suspect b 1 by a
        0.10 ** suspected b by a
        1.00 -> b: ping #2 b, suspect b 1 by me
        1.05 <- b: ack #2
        2.00 -> a: ping #3 a
        2.05 <- a: ack #3
        3.00 -> b: ping #4 b, suspect b 1 by me
        3.05 <- b: ack #4
        4.00 -> a: ping #5 a
        4.05 <- a: ack #5
        4.20 <- a: suspect me 1 by a
        5.00 -> b: ping #6 b, suspect b 1 by me
        5.30 <- b: ack #6
        5.60 -> b: ping #7 b, suspect b 1 by me
        6.10 ** died b by me
        """,
        6.5,
    )
    assert machine.get("b").state is State.DEAD


def test_a_repeated_accuser_counts_once():
    """Four independent ones would end it after 5 s. An ack is no objection."""
    machine = transcript(
        """
        0.00 -> a: ping #1 a
        0.01 <- a: ack #1
        0.10 <- b: suspect e 1 by b
        0.10 ** suspected e by b
        0.20 <- b: suspect e 1 by b
        0.30 <- b: suspect e 1 by b
        0.40 <- b: suspect e 1 by b
        1.00 -> b: ping #2 b
        1.05 <- b: ack #2
        2.00 -> c: ping #3 c
        2.05 <- c: ack #3
        3.00 -> d: ping #4 d
        3.05 <- d: ack #4
        4.00 -> e: ping #5 e, suspect e 1 by me
        4.05 <- e: ack #5
        5.00 -> a: ping #6 a
        5.05 <- a: ack #6
        """,
        5.9,
        others="abcde",
    )
    assert machine.get("e").state is State.SUSPECT


def test_a_suspect_learns_of_it_with_the_ping_and_objects():
    """Lifeguard's buddy system."""
    machine = transcript(
        """
        0.00 -> a: ping #1 a
        0.01 <- a: ack #1
        0.50 <- a: suspect b 1 by a
        0.50 ** suspected b by a
        1.00 -> b: ping #2 b, suspect b 1 by me
        1.10 <- b: ack #2, alive b 2
        1.10 ** alive again b
        """,
        1.9,
    )
    assert machine.get("b") == record("b", 2)


def test_an_outdated_suspicion_is_dropped_and_its_sender_corrected():
    """b has objected, and c does not know it yet."""
    machine = transcript(
        """
        0.00 -> a: ping #1 a
        0.01 <- a: ack #1
        0.30 <- b: alive b 2
        0.30 -> c: alive b 2
        0.60 <- c: suspect b 1 by c
        0.60 -> c: alive b 2
        """,
        0.9,
        others="abc",
        watched="c",
    )
    assert machine.get("b").state is State.ALIVE


def test_a_ping_for_an_earlier_node_is_not_answered():
    """Another node had this address before."""
    machine = transcript(
        """
        0.00 -> a: ping #1 a
        0.01 <- a: ack #1
        0.50 <- a: ping #9 somebody
        0.60 <- a: ping #9 me
        0.60 -> a: ack #9
        """,
        0.9,
    )
    assert machine.counts["dropped: wrong node"] == 1


def test_a_member_that_is_suspected_or_called_dead_objects():
    """With a newer incarnation, which is piggybacked on the next packets."""
    machine = transcript(
        """
        0.00 -> a: ping #1 a
        0.01 <- a: ack #1
        0.50 <- b: suspect me 1 by b
        0.50 -> a: alive me 2
        0.60 <- a: suspect me 1 by a
        0.60 -> a: alive me 2, alive me 2
        0.70 -> a: alive me 2
        0.80 <- a: dead me 5 by b
        0.90 -> a: alive me 6
        1.00 -> b: ping #2 b, alive me 6
        1.10 -> a: alive me 6
        """,
        1.1,
        watched="a",
    )
    assert machine.me == record("me", 6)


def test_changed_metadata_is_reported_once():
    """Repeated and older messages change nothing."""
    machine = transcript(
        """
        0.00 -> a: ping #1 a
        0.01 <- a: ack #1
        0.30 <- b: alive b 2 ready
        0.30 ** changed b
        0.40 <- b: alive b 2 ready
        0.50 <- a: alive b 1
        """,
        0.9,
    )
    assert machine.get("b") == record("b", 2, meta=b"ready")


def test_the_dead_stay_dead_until_they_object():
    """Outdated news of a dead member do not revive it."""
    transcript(
        """
        0.00 -> a: ping #1 a
        0.01 <- a: ack #1
        0.30 <- b: suspect a 1 by b
        0.30 ** suspected a by b
        0.40 <- b: dead a 1 by b
        0.40 ** died a by b
        0.50 <- b: alive a 1
        0.60 <- b: suspect a 1 by b
        0.70 <- a: alive a 2
        0.70 ** joined a
        """,
        0.9,
    )


def test_a_member_that_left_is_not_dead_and_may_return():
    """A leave comes from the member itself: no suspicion follows."""
    transcript(
        """
        0.00 -> a: ping #1 a
        0.01 <- a: ack #1
        0.30 <- b: dead b 1 by b
        0.30 ** left b
        0.40 <- a: suspect b 1 by a
        0.50 <- a: alive b 1
        0.60 <- b: alive b 2
        0.60 ** joined b
        """,
        0.9,
    )


def test_a_leave_is_sent_to_all_and_nothing_follows():
    """No probes, and no objection."""
    machine = transcript(
        """
        0.00 -> a: ping #1 a
        0.01 <- a: ack #1
        0.30 .. leave
        0.30 -> b: dead me 1 by me, dead me 1 by me
        0.30 -> b: dead me 1 by me
        0.40 <- b: suspect me 1 by b
        """,
        3.0,
        watched="b",
    )
    assert machine.leave_announced


def test_a_member_that_returns_before_all_know_of_its_death():
    """Its new process begins with incarnation 1, hears of its past, and is newer."""
    transcript(
        """
        0.00 -> a: ping #1 a
        0.01 <- a: ack #1
        0.30 <- b: dead b 1 by b
        0.30 ** left b
        0.40 <- b: ping #5 me, alive b 1
        0.40 -> b: ack #5, dead b 1 by b
        0.50 <- b: alive b 2
        0.50 ** joined b
        0.70 -> b: alive b 2
        0.90 -> b: alive b 2
        """,
        0.9,
        watched="b",
    )
