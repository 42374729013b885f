"""Each route of a real node, the fast path included, is behind the guard: found by walking the routes themselves."""

from __future__ import annotations

import http.client
import json

import pytest

from orchy.rest.fast_path import PATH
from tests.rest.asking import routes_of, unasked_app

pytestmark = pytest.mark.real


def routes():
    """(method, path) of each route, and of two that there are not."""
    found = [(method, path) for method, path, _ in routes_of(unasked_app())]
    assert ("POST", PATH) in found
    assert len(found) > 30
    return [*found, ("GET", "/no/route"), ("POST", "/no/route")]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    from tests.conftest import OrchyServer

    folder = tmp_path_factory.mktemp("guard")
    flags = [
        "--data-dir",
        str(folder / "data"),
        "--http-host",
        "orchy.example.com,flows.corp",
        "--http-host",
        "10.1.2.3",
    ]
    server = OrchyServer(flags, folder / "server.log").start()
    yield server
    server.kill()


def ask(server, method, path, body=None, **fields):
    """(status, error) with just these headers."""
    connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=20)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        for name, value in fields.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders(body)
        response = connection.getresponse()
        text = response.read()
        return response.status, json.loads(text)["error"] if response.status >= 400 and text else None
    finally:
        connection.close()


@pytest.mark.parametrize(("method", "path"), routes())
def test_no_route_is_reached_past_the_guard(server, method, path):
    here = {"Host": f"127.0.0.1:{server.http_port}"}
    assert ask(server, method, path)[0] == 400
    assert ask(server, method, path, Host="evil.example")[0] == 421
    assert ask(server, method, path, **here, Origin="http://evil.example")[0] == 403
    assert ask(server, method, path, **here, Sec_Fetch_Site="cross-site")[0] == 403
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        assert ask(server, method, path, b"{}", **here, Content_Type=kind)[0] == 415
    assert ask(server, method, path, b"{}", **here)[0] == 415
    json_body = {**here, "Content_Type": "application/json; charset=utf-8", "Origin": f"http://{here['Host']}"}
    assert ask(server, method, path, b"{}", **json_body)[0] in (200, 400, 404)
    assert ask(server, method, path, **here, Sec_Fetch_Site="same-origin")[0] in (200, 400, 404)


@pytest.mark.parametrize("host", ["orchy.example.com", "flows.corp:443", "10.1.2.3", "localhost"])
def test_names_that_the_operator_gave(server, host):
    assert ask(server, "GET", "/health/live", Host=host) == (200, None)


def test_what_was_refused_is_counted(server):
    ask(server, "GET", "/", Host="evil.example")
    connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=20)
    connection.request("BREW", "/coffee")
    assert connection.getresponse().status == 404
    connection.close()
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    assert 'orchy_http_refused_total{reason="host"}' in text
    assert "orchy_http_connection_errors_total 0.0" in text
    assert "orchy_http_connections 1.0" in text
    assert "BREW" not in text
    assert 'method="other"' in text
