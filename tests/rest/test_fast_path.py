"""The fast path of starts: what it answers itself, and what it leaves to the framework."""

from __future__ import annotations

import json

import pytest
import trio

from orchy.rest.fast_path import BODY_BYTES_MAX, PATH, StartFastPath


class Caller:
    """Asks a StartFastPath before an application that only notes that it was asked."""

    def __init__(self):
        self.passed_on = []
        self.bodies = []
        self.fast_path = StartFastPath(self._application, self._execute)

    async def _application(self, scope, receive, send):
        self.passed_on.append(scope)

    async def _execute(self, body):
        await trio.lowlevel.checkpoint()
        self.bodies.append(body)
        return {"flowId": "f"}

    async def ask(self, *parts, path=PATH, method="POST", length=None, scope_type="http", end=True):
        """(status, headers, JSON) of the answer; None: there was none."""
        size = sum(map(len, parts)) if length is None else length
        headers = [] if size is False else [(b"content-length", b"%d" % size if isinstance(size, int) else size)]
        scope = {"type": scope_type, "path": path, "method": method, "headers": headers}
        messages = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
        if end:
            messages.append({"type": "http.request", "body": b"", "more_body": False})
        sent = []

        async def receive():
            return messages.pop(0)

        async def send(message):
            sent.append(message)

        if end is None:
            messages.append({"type": "http.disconnect"})
        await self.fast_path(scope, receive, send)
        if not sent:
            return None
        start, body = sent
        return start["status"], dict(start["headers"]), json.loads(body["body"])


@pytest.fixture
def caller():
    return Caller()


async def test_a_body_in_parts_is_answered(caller):
    status, headers, answer = await caller.ask(b'{"name":', b' "w"}')
    assert (status, answer) == (200, {"flowId": "f"})
    assert caller.bodies == [b'{"name": "w"}']
    assert headers == {b"content-type": b"application/json", b"content-length": b"14"}


async def test_nothing_is_started_for_a_client_that_left_in_the_middle(caller):
    assert await caller.ask(b"{", length=10, end=None) is None
    assert caller.bodies == []


@pytest.mark.parametrize(
    "other",
    [
        {"path": "/flow/event"},
        {"method": "GET"},
        {"scope_type": "lifespan"},
        {"length": BODY_BYTES_MAX + 1},
        {"length": b"-1"},
        {"length": b"9" * 30},
        {"length": False},
    ],
)
async def test_all_else_is_the_frameworks(caller, other):
    assert await caller.ask(b"{}", **other) is None
    assert (len(caller.passed_on), caller.bodies) == (1, [])
