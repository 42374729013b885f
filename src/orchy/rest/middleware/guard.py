"""Which requests are let in, decided by their heads alone, for every route and before any of them. Pure.

A browser sends requests on behalf of any page that its user opens. That can't be prevented, but the browser says whose
page it was (`Origin`, `Sec-Fetch-Site`) and which name it called (`Host`: a name that an attacker resolves to this node
is not one of ours), and it sends JSON to another origin only if that server agrees, which this one never does.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence

from orchy.rest.http.refusal import Refusal, quoted

#: Verdicts on values of headers that are remembered.
VERDICTS_MAX = 1_000

_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]/@?#\s]+)(?::[0-9]{0,5})?")
_ABSOLUTE = re.compile(rb"https?://([^/?#]+)(.*)", re.IGNORECASE)
_JSON = re.compile(rb"application/json[ \t]*(;.*)?", re.IGNORECASE)
_ONCE = (b"host", b"origin", b"sec-fetch-site", b"content-type", b"content-length", b"transfer-encoding")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Guard:
    """`hosts` are the names and addresses by which this node may be called, beside loopback's and that of the socket
    that a request arrived at.
    """

    def __init__(self, hosts: Iterable[str] = ()) -> None:
        self._names = {host.lower().rstrip(".") for host in hosts}
        self._addresses = {address for host in self._names if (address := _address(host)) is not None}
        self._is_known: dict[tuple[bytes, str], bool] = {}
        self._is_json: dict[bytes, bool] = {}

    def refuse(
        self, version: bytes, method: bytes, target: bytes, headers: Sequence[tuple[bytes, bytes]], local_host: str
    ) -> Refusal | None:
        """Why a request is not let in, or None if it is. Names of headers are in lower case; `local_host` is the
        address of the socket. A request to `http://HOST/path` is one to HOST.
        """
        fields = dict(headers)
        if version not in (b"1.1", b"1.0"):
            return _protocol_refusal(method)
        if len(fields) != len(headers) and (repeated := _repeated(headers)):
            return Refusal(400, "request", f"the header {repeated} is there twice")
        if b"transfer-encoding" in fields and b"content-length" in fields:
            return Refusal(400, "request", "Content-Length and Transfer-Encoding exclude each other")
        host = fields.get(b"host")
        if host is None:
            return Refusal(400, "host", "the header Host is missing")
        if not target.startswith(b"/"):
            absolute = _ABSOLUTE.fullmatch(target)
            if absolute is None or method == b"CONNECT":
                return Refusal(400, "request", f"the target must be a path, such as /flow, not {quoted(target)}")
            host = absolute[1]
        if not self._knows(host, local_host):
            return _host_refusal(host)
        return _origin_refusal(fields, host) or _websocket_refusal(fields) or self._body_refusal(fields)

    def _knows(self, host: bytes, local_host: str) -> bool:
        key = host, local_host
        verdict = self._is_known.get(key)
        if verdict is None:
            if len(self._is_known) >= VERDICTS_MAX:
                self._is_known.clear()
            verdict = self._is_known[key] = self._is_own_name(host, local_host)
        return verdict

    def _is_own_name(self, host: bytes, local_host: str) -> bool:
        match = _HOST.fullmatch(host.decode("latin-1"))
        if match is None:
            return False
        name = match[1].lower().rstrip(".")
        address = _address(name)
        if address is None:
            return name in self._names or name == "localhost" or name.endswith(".localhost")
        return address.is_loopback or address in self._addresses or address == _address(local_host)

    def _body_refusal(self, fields: Mapping[bytes, bytes]) -> Refusal | None:
        """Refuses a body that is not JSON, or does not say so."""
        if b"transfer-encoding" not in fields and not fields.get(b"content-length", b"0").strip(b"0"):
            return None
        kind = fields.get(b"content-type", b"")
        verdict = self._is_json.get(kind)
        if verdict is None:
            if len(self._is_json) >= VERDICTS_MAX:
                self._is_json.clear()
            verdict = self._is_json[kind] = _JSON.fullmatch(kind) is not None
        if verdict:
            return None
        said = f"this one says {quoted(kind)}" if kind else "this one says nothing"
        return Refusal(
            415,
            "content-type",
            "a body must be JSON and say so: send the header 'Content-Type: application/json', as `curl --json '{...}'`"
            f" and `curl -H 'Content-Type: application/json' -d '{{...}}'` do; {said}",
        )


def path_of(target: bytes) -> bytes:
    """The path and query of a target that was let in."""
    absolute = None if target.startswith(b"/") else _ABSOLUTE.fullmatch(target)
    if absolute is None:
        return target
    rest: bytes = absolute[2]
    return rest if rest.startswith(b"/") else b"/" + rest


def _protocol_refusal(method: bytes) -> Refusal:
    if method == b"PRI":
        return Refusal(
            400,
            "http2",
            "this is Orchy's REST port, which speaks HTTP/1.1; HTTP/2 and gRPC are not spoken here: workers connect to"
            " the port of --grpc-port (8099 if it is not given)",
        )
    return Refusal(400, "request", "this is Orchy's REST port, which speaks HTTP/1.1")


def _repeated(headers: Sequence[tuple[bytes, bytes]]) -> str | None:
    names = [name for name, _ in headers]
    return next((name.decode() for name in _ONCE if names.count(name) > 1), None)


def _host_refusal(host: bytes) -> Refusal:
    match = _HOST.fullmatch(host.decode("latin-1"))
    name = quoted(match[1].encode("latin-1") if match else host)
    return Refusal(
        421, "host", f"this node is not known as {name}; if that is a name of it, start it with --http-host {name}"
    )


def _origin_refusal(fields: Mapping[bytes, bytes], host: bytes) -> Refusal | None:
    """Refuses what a browser sent for a page of another origin."""
    site = fields.get(b"sec-fetch-site")
    if site is not None and site not in (b"same-origin", b"none"):
        return Refusal(
            403, "origin", "a browser sent this for a page of another origin (Sec-Fetch-Site); such are refused"
        )
    origin = fields.get(b"origin")
    # Trust `same-origin` even where a proxy has changed Host: a page can't set Sec-Fetch-Site.
    if origin is None or site == b"same-origin" or origin.partition(b"://")[2].lower() == host.lower():
        return None
    return Refusal(
        403, "origin", f"a browser sent this for a page of {quoted(origin)}; only pages of this node may call it"
    )


def _websocket_refusal(fields: Mapping[bytes, bytes]) -> Refusal | None:
    """`Upgrade: h2c` is let in: HTTP lets a server ignore it, and some clients offer it with each request."""
    if b"websocket" in fields.get(b"upgrade", b"").lower():
        return Refusal(400, "websocket", "this is Orchy's REST port, which has no WebSockets")
    return None


def _address(text: str) -> Address | None:
    """An address, also in brackets or with a zone; that of IPv4 for one that is mapped to IPv6."""
    try:
        address = ipaddress.ip_address(text.strip("[]").partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
