"""Who may stay when there is no room for all, how often requests may come, and how much is logged of it."""

from __future__ import annotations

import resource

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from orchy.rest.http.room import Bucket, Room
from orchy.runtime import open_files as openfiles

CONNECTIONS_MAX = 4
BYTES_MAX = 100


class Guest:
    def __init__(self):
        self.kept_bytes = 0
        self.evicted = False

    def evict(self):
        assert not self.evicted
        self.evicted = True


class Crowd(RuleBasedStateMachine):
    """Guests come, ask, wait, send and go in any order."""

    def __init__(self):
        super().__init__()
        self.room = Room(lambda: CONNECTIONS_MAX, BYTES_MAX)
        self.fresh, self.waiting, self.served = [], [], []

    @property
    def here(self):
        return self.fresh + self.waiting + self.served

    def look(self):
        """Those that were evicted are the ones that had to be."""
        for guests in (self.fresh, self.waiting):
            guests[:] = [guest for guest in guests if not guest.evicted]
        assert not any(guest.evicted for guest in self.served)

    @rule()
    def come(self):
        first = (self.fresh + self.waiting)[:1]
        full = len(self.here) == CONNECTIONS_MAX
        guest = Guest()
        assert self.room.enter(guest) == (not full or bool(first))
        if full and first:
            assert first[0].evicted
        self.look()
        if not full or first:
            self.fresh.append(guest)

    @precondition(lambda self: self.fresh + self.waiting)
    @rule(data=st.data())
    def ask(self, data):
        guest = data.draw(st.sampled_from(self.fresh + self.waiting))
        (self.fresh if guest in self.fresh else self.waiting).remove(guest)
        self.room.serve(guest)
        self.served.append(guest)

    @precondition(lambda self: self.served)
    @rule(data=st.data())
    def answer(self, data):
        guest = data.draw(st.sampled_from(self.served))
        self.served.remove(guest)
        self.room.wait(guest)
        assert guest.kept_bytes == 0
        self.waiting.append(guest)

    @precondition(lambda self: self.here)
    @rule(data=st.data(), size=st.integers(1, 2 * BYTES_MAX))
    def send(self, data, size):
        guest = data.draw(st.sampled_from(self.here))
        before = guest.kept_bytes
        kept = self.room.keep(guest, size)
        assert not guest.evicted
        assert guest.kept_bytes == before + size * kept
        self.look()
        if not kept:  # nobody who waits keeps more
            assert all(other.kept_bytes <= before for other in self.fresh + self.waiting)

    @precondition(lambda self: self.here)
    @rule(data=st.data())
    def go(self, data):
        guest = data.draw(st.sampled_from(self.here))
        for guests in (self.fresh, self.waiting, self.served):
            if guest in guests:
                guests.remove(guest)
        self.room.leave(guest)
        self.room.leave(guest)
        self.room.wait(guest)
        assert not self.room.keep(guest, 1)

    @invariant()
    def what_is_kept_is_what_they_keep(self):
        assert self.room.connections == len(self.here) <= CONNECTIONS_MAX
        assert self.room.bytes_kept == sum(guest.kept_bytes for guest in self.here) <= BYTES_MAX


test_a_crowd = Crowd.TestCase


def test_requests_a_second():
    bucket = Bucket(2)
    assert [bucket.take(10.0) for _ in range(3)] == [True, True, False]
    assert not bucket.take(10.4)
    assert bucket.take(10.5)
    assert [bucket.take(99.0) for _ in range(3)] == [True, True, False]
    assert all(Bucket(0).take(1.0) for _ in range(100))


def test_a_door_leaves_files_for_the_rest(monkeypatch):
    files = [0]
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (files[0], files[0]))
    for limit, share in [(256, 96), (20, openfiles.SHARE_MIN), (1_000_000, 10_000), (resource.RLIM_INFINITY, 10_000)]:
        files[0] = limit
        assert openfiles.share_of_listener(10_000) == share


def test_as_many_files_as_the_system_allows(monkeypatch):
    told = []
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (1_024, 4_096))
    monkeypatch.setattr(resource, "setrlimit", lambda kind, limits: told.append(limits))
    openfiles.raise_limit()
    assert told == [(4_096, 4_096)]

    def refuse(kind, limits):
        raise ValueError("not allowed")

    monkeypatch.setattr(resource, "setrlimit", refuse)
    openfiles.raise_limit()
