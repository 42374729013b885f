"""Which requests are let in by their heads; what is decided here holds for every route."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchy.rest.middleware.guard import VERDICTS_MAX, Guard, path_of

LOCAL = "192.168.7.9"
GOOD = {b"host": b"localhost:8080"}
JSON = {b"content-length": b"2", b"content-type": b"application/json"}


@pytest.fixture
def guard():
    return Guard(["orchy.example.com", "10.0.0.5", "fd00::5"])


def asked(guard, fields=GOOD, *, method=b"POST", target=b"/flow", version=b"1.1", local=LOCAL):
    """The status of the refusal; None: it is let in."""
    headers = list(fields.items()) if isinstance(fields, dict) else fields
    refusal = guard.refuse(version, method, target, headers, local)
    if refusal is not None:
        assert refusal.sentence
        assert len(refusal.sentence) < 400
    return None if refusal is None else refusal.status


@pytest.mark.parametrize(
    "host",
    [
        b"localhost", b"LOCALHOST:1", b"localhost.", b"orchy.localhost:8080", b"127.0.0.1:8080", b"127.8.7.6",
        b"192.168.7.9:8080", b"10.0.0.5", b"[fd00::5]:8080", b"[FD00:0::5]", b"orchy.example.com",
        b"[::ffff:127.0.0.1]", b"[::1]:80", b"Orchy.Example.Com:443",
    ],
)  # fmt: skip
def test_names_of_this_node(guard, host):
    assert asked(guard, {b"host": host}) is None
    assert asked(guard, {b"host": host}) is None  # from memory


@pytest.mark.parametrize(
    "host",
    [
        b"", b"evil.example", b"localhost.evil.example", b"notlocalhost", b"192.168.7.8", b"0.0.0.0:8080",
        b"127.0.0.1.evil.example", b"localhost@evil.example", b"evil.example#localhost", b"[::]", b"[::1",
        b"localhost:999999", b"\xff", b"localhost evil", b"example.com", b"www.orchy.example.com", b"x" * 5_000,
        b"localhost:8080:1", b"2130706433",
    ],
)  # fmt: skip
def test_names_of_others_that_resolve_to_this_node(guard, host):
    assert asked(guard, {b"host": host}) == 421
    assert asked(guard, {b"host": host}) == 421


def test_the_refusal_of_a_name_says_how_to_allow_it(guard):
    refusal = guard.refuse(b"1.1", b"GET", b"/", [(b"host", b"flows.corp:8080")], LOCAL)
    assert "--http-host 'flows.corp'" in refusal.sentence


def test_a_socket_that_is_mapped_from_ipv4_has_the_address_of_ipv4(guard):
    assert asked(guard, {b"host": b"192.168.7.9"}, local="::ffff:192.168.7.9") is None
    assert asked(guard, {b"host": b"[fe80::1]"}, local="fe80::1%eth0") is None


def test_a_request_without_a_host(guard):
    assert asked(guard, {}) == 400
    assert asked(guard, {}, version=b"1.0") == 400


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({}, None),
        ({b"sec-fetch-site": b"same-origin"}, None),
        ({b"sec-fetch-site": b"none"}, None),
        ({b"sec-fetch-site": b"cross-site"}, 403),
        ({b"sec-fetch-site": b"same-site"}, 403),
        ({b"sec-fetch-site": b"what"}, 403),
        ({b"origin": b"http://localhost:8080"}, None),
        ({b"origin": b"HTTP://LOCALHOST:8080"}, None),
        ({b"origin": b"https://localhost:8080"}, None),
        ({b"origin": b"http://localhost:3000"}, 403),
        ({b"origin": b"http://localhost"}, 403),
        ({b"origin": b"http://evil.example"}, 403),
        ({b"origin": b"localhost:8080"}, 403),
        ({b"origin": b"null"}, 403),
        ({b"origin": b""}, 403),
        ({b"origin": b"https://flows.corp", b"sec-fetch-site": b"same-origin"}, None),  # a proxy changed Host
        ({b"origin": b"http://localhost:8080", b"sec-fetch-site": b"cross-site"}, 403),
    ],
)
@pytest.mark.parametrize("method", [b"GET", b"POST", b"DELETE", b"OPTIONS"])
def test_pages_of_other_origins(guard, fields, status, method):
    assert asked(guard, {**GOOD, **fields}, method=method) == status


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({}, None),
        ({b"content-length": b"0"}, None),
        ({b"content-length": b"0", b"content-type": b"text/plain"}, None),
        ({b"content-length": b"2"}, 415),
        ({b"transfer-encoding": b"chunked"}, 415),
        (JSON, None),
        ({**JSON, b"content-type": b"application/json; charset=utf-8"}, None),
        ({**JSON, b"content-type": b"Application/JSON;charset=\"latin-1\""}, None),
        ({**JSON, b"content-type": b"application/json ; x=y"}, None),
        ({**JSON, b"content-type": b"text/plain"}, 415),
        ({**JSON, b"content-type": b"text/plain; application/json"}, 415),
        ({**JSON, b"content-type": b"application/jsonx"}, 415),
        ({**JSON, b"content-type": b"application/x-www-form-urlencoded"}, 415),
        ({**JSON, b"content-type": b"multipart/form-data; boundary=application/json"}, 415),
        ({**JSON, b"content-type": b"application/json, text/plain"}, 415),
        ({**JSON, b"content-type": b""}, 415),
        ({**JSON, b"transfer-encoding": b"chunked"}, 400),
        ({b"upgrade": b"h2c", b"http2-settings": b"A"}, None),
        ({b"upgrade": b"WebSocket"}, 400),
        ({b"upgrade": b"h2c, websocket"}, 400),
    ],
)  # fmt: skip
def test_bodies(guard, fields, status):
    assert asked(guard, {**GOOD, **fields}) == status


def test_the_refusal_of_a_body_shows_the_header(guard):
    refusal = guard.refuse(b"1.1", b"POST", b"/", list({**GOOD, b"content-length": b"2"}.items()), LOCAL)
    assert "'Content-Type: application/json'" in refusal.sentence
    assert "curl --json" in refusal.sentence


@pytest.mark.parametrize("name", [b"host", b"content-type", b"origin", b"sec-fetch-site"])
def test_a_header_that_decides_must_not_be_repeated(guard, name):
    assert asked(guard, [*GOOD.items(), *JSON.items(), (name, b"a"), (name, b"b")]) == 400
    assert asked(guard, [*GOOD.items(), (b"accept", b"a"), (b"accept", b"b")]) is None


@pytest.mark.parametrize(
    ("target", "status", "path"),
    [
        (b"/flow?a=http://b", None, b"/flow?a=http://b"),
        (b"http://localhost:8080/flow?a", None, b"/flow?a"),
        (b"HTTP://127.0.0.1", None, b"/"),
        (b"http://localhost?a", None, b"/?a"),
        (b"http://evil.example/flow", 421, None),
        (b"http://localhost@evil.example/", 421, None),
        (b"*", 400, None),
        (b"flow", 400, None),
        (b"ftp://localhost/", 400, None),
        (b"localhost:80", 400, None),
    ],
)
def test_targets(guard, target, status, path):
    assert asked(guard, target=target) == status
    if status is None:
        assert path_of(target) == path


def test_http2_is_refused_with_the_name_of_its_port(guard):
    refusal = guard.refuse(b"2.0", b"PRI", b"*", [], LOCAL)
    assert (refusal.status, refusal.reason) == (400, "http2")
    assert "--grpc-port" in refusal.sentence
    assert asked(guard, version=b"9.9") == 400
    assert asked(guard, method=b"CONNECT", target=b"http://localhost/") == 400


def test_remembered_verdicts_are_limited(guard):
    for number in range(3 * VERDICTS_MAX):
        asked(guard, {b"host": b"h%d" % number})
        asked(guard, {**GOOD, **JSON, b"content-type": b"t/%d" % number})
    assert len(guard._is_known) <= VERDICTS_MAX
    assert len(guard._is_json) <= VERDICTS_MAX


@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"host", b"origin", b"sec-fetch-site", b"content-type", b"content-length", b"x"]),
            st.binary(max_size=40) | st.sampled_from([b"localhost", b"http://localhost", b"3", b"application/json"]),
        ),
        max_size=6,
    ),
    st.binary(min_size=1, max_size=40),
    st.sampled_from(["", "127.0.0.1", "::1", "fe80::1%x", "what"]),
)  # fmt: skip
def test_any_head_is_let_in_or_refused(headers, target, local):
    refusal = Guard().refuse(b"1.1", b"GET", target, headers, local)
    if refusal is not None:
        assert refusal.closing_response().startswith(b"HTTP/1.1 4")
    else:
        fields = dict(headers)
        assert fields.get(b"sec-fetch-site", b"none") in (b"none", b"same-origin")
        assert fields[b"host"]
