"""Which connections are evicted when there is no room for all, and how often requests may come."""

from __future__ import annotations

import resource

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from orchy.rest.http.admission import Admission
from orchy.runtime import open_files as openfiles

CONNECTIONS_MAX = 4
BYTES_MAX = 100


class Connection:
    def __init__(self):
        self.held_bytes = 0
        self.evicted = False

    def evict(self):
        assert not self.evicted
        self.evicted = True


class Admitting(RuleBasedStateMachine):
    """Connections are made, served, answered, filled and closed in any order."""

    def __init__(self):
        super().__init__()
        self.admission = Admission(lambda: CONNECTIONS_MAX, BYTES_MAX)
        self.new, self.idle, self.served = [], [], []

    @property
    def open(self):
        return self.new + self.idle + self.served

    def forget_evicted(self):
        """Those that were evicted are the ones that had to be."""
        for connections in (self.new, self.idle):
            connections[:] = [connection for connection in connections if not connection.evicted]
        assert not any(connection.evicted for connection in self.served)

    @rule()
    def connect(self):
        first = (self.new + self.idle)[:1]
        full = len(self.open) == CONNECTIONS_MAX
        connection = Connection()
        assert self.admission.admit(connection) == (not full or bool(first))
        if full and first:
            assert first[0].evicted
        self.forget_evicted()
        if not full or first:
            self.new.append(connection)

    @precondition(lambda self: self.new + self.idle)
    @rule(data=st.data())
    def ask(self, data):
        connection = data.draw(st.sampled_from(self.new + self.idle))
        (self.new if connection in self.new else self.idle).remove(connection)
        self.admission.start_serving(connection)
        self.served.append(connection)

    @precondition(lambda self: self.served)
    @rule(data=st.data())
    def answer(self, data):
        connection = data.draw(st.sampled_from(self.served))
        self.served.remove(connection)
        self.admission.start_waiting(connection)
        assert connection.held_bytes == 0
        self.idle.append(connection)

    @precondition(lambda self: self.open)
    @rule(data=st.data(), size=st.integers(1, 2 * BYTES_MAX))
    def send(self, data, size):
        connection = data.draw(st.sampled_from(self.open))
        before = connection.held_bytes
        held = self.admission.hold_bytes(connection, size)
        assert not connection.evicted
        assert connection.held_bytes == before + size * held
        self.forget_evicted()
        if not held:  # none that waits holds more
            assert all(other.held_bytes <= before for other in self.new + self.idle)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def disconnect(self, data):
        connection = data.draw(st.sampled_from(self.open))
        for connections in (self.new, self.idle, self.served):
            if connection in connections:
                connections.remove(connection)
        self.admission.remove(connection)
        self.admission.remove(connection)
        self.admission.start_waiting(connection)
        assert not self.admission.hold_bytes(connection, 1)

    @invariant()
    def the_total_is_what_they_hold(self):
        assert self.admission.connections == len(self.open) <= CONNECTIONS_MAX
        assert self.admission.bytes_held == sum(connection.held_bytes for connection in self.open) <= BYTES_MAX


test_admission = Admitting.TestCase


def test_a_listener_leaves_files_for_the_rest(monkeypatch):
    files = [0]
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (files[0], files[0]))
    for limit, share in [(256, 96), (20, openfiles.SHARE_MIN), (1_000_000, 10_000), (resource.RLIM_INFINITY, 10_000)]:
        files[0] = limit
        assert openfiles.share_of_listener(10_000) == share


def test_as_many_files_as_the_system_allows(monkeypatch):
    called = []
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (1_024, 4_096))
    monkeypatch.setattr(resource, "setrlimit", lambda kind, limits: called.append(limits))
    openfiles.raise_limit()
    assert called == [(4_096, 4_096)]

    def refuse(kind, limits):
        raise ValueError("not allowed")

    monkeypatch.setattr(resource, "setrlimit", refuse)
    openfiles.raise_limit()
