"""The application over stand-ins or a real engine, asked by messages of ASGI as the HTTP server asks it."""

from __future__ import annotations

import json

import trio

from orchy.rest.app import create_app
from orchy.rest.services import Services


class Unasked:
    """In the place of services that are not asked."""

    def __getattr__(self, name):
        return None


class Counted:
    """Metrics that note what was counted."""

    def __init__(self):
        self.requests = []

    def requested(self, method, route, status, seconds):
        assert 0 <= seconds < 60
        self.requests.append((method, route, status))

    def text(self):
        return b"orchy_up 1\n"


def unasked_app(metrics=None):
    """An application whose services are not there."""
    nobody = Unasked()
    return create_app(Services(nobody, nobody, nobody, nobody, nobody, metrics or Counted()))


def routes_of(app):
    """(method, path, rule) of each route, with something in the place of its parameters."""
    return [
        (method, rule.build(dict.fromkeys(rule.arguments, "x"), append_unknown=False)[1], rule)
        for rule in app.url_map.iter_rules()
        for method in sorted(rule.methods)
    ]


async def ask(app, method, path, body=None, query="", length_is_known=True):
    """(status, headers, body) of an answer."""
    headers = [(b"host", b"localhost")]
    if body is not None:
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers.append((b"content-type", b"application/json"))
        if length_is_known:
            headers.append((b"content-length", b"%d" % len(body)))
    scope = {
        "type": "http",
        "asgi": {"spec_version": "2.1", "version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
        "extensions": {},
    }
    messages = [{"type": "http.request", "body": body or b"", "more_body": False}]
    sent = []

    async def receive():
        if messages:
            return messages.pop()
        return await trio.sleep_forever()

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    start, *parts = sent
    return start["status"], dict(start["headers"]), b"".join(part.get("body", b"") for part in parts)
