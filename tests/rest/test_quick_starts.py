"""The route that does not go through the framework: what it answers itself, and what it leaves to it."""

from __future__ import annotations

import json

import pytest
import trio

from orchy.errors import NotFound, StoreUnavailable
from orchy.rest.quick import BODY_BYTES_MAX, QuickStarts


class Door:
    """`QuickStarts` before an application that only notes that it was asked, over an `execute` that can be told."""

    def __init__(self):
        self.passed_on = []
        self.bodies = []
        self.counted = []
        self.error = None
        self.quick = QuickStarts(self._application, self._execute, self._requested)

    async def _application(self, scope, receive, send):
        self.passed_on.append(scope)

    async def _execute(self, body):
        await trio.lowlevel.checkpoint()
        self.bodies.append(body)
        if self.error is not None:
            raise self.error
        return {"flowId": "f"}

    def _requested(self, method, route, status, seconds):
        self.counted.append((method, route, status))

    async def ask(self, *parts, path="/flow/execute", method="POST", length=None, scope_type="http", end=True):
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
        await self.quick(scope, receive, send)
        if not sent:
            return None
        start, body = sent
        return start["status"], dict(start["headers"]), json.loads(body["body"])


@pytest.fixture
def door():
    return Door()


async def test_a_body_in_parts_is_answered(door):
    status, headers, answer = await door.ask(b'{"name":', b' "w"}')
    assert (status, answer) == (200, {"flowId": "f"})
    assert door.bodies == [b'{"name": "w"}']
    assert headers == {b"content-type": b"application/json", b"content-length": b"14"}
    assert door.counted == [("POST", "/flow/execute", 200)]


async def test_errors_look_as_they_do_everywhere(door):
    door.error = NotFound("no workflow is named 'w'")
    status, headers, answer = await door.ask(b"{}")
    assert (status, answer) == (404, {"error": "no workflow is named 'w'", "details": []})
    door.error = StoreUnavailable("Redis is not there")
    status, headers, answer = await door.ask(b"{}")
    assert (status, headers[b"retry-after"]) == (503, b"1")
    assert answer["error"].startswith("Redis is not there")
    assert [status for _, _, status in door.counted] == [404, 503]


async def test_an_error_that_nobody_foresaw_is_told_to_the_log_only(door, caplog):
    door.error = RuntimeError("secret")
    status, _, answer = await door.ask(b"{}")
    assert (status, answer["error"]) == (500, "the server failed; its log says why")
    assert "secret" in caplog.text


async def test_nothing_is_started_for_a_client_that_left_in_the_middle(door):
    assert await door.ask(b"{", length=10, end=None) is None
    assert (door.bodies, door.counted) == ([], [])


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
async def test_all_else_is_the_frameworks(door, other):
    assert await door.ask(b"{}", **other) is None
    assert (len(door.passed_on), door.bodies) == (1, [])
