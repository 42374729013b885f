"""The settings of a server: flags, environment, TOML file, in this order of precedence. Frozen; pure.

Each setting is one line of `SETTINGS`: its flag is `--node-name`, its variable `ORCHY_NODE_NAME`, its TOML key
`node-name` (or `node_name`). All mistakes are reported at once, each with its source.
"""

from __future__ import annotations

import base64
import difflib
import math
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from orchy.addresses import HostPort, parse_host_port
from orchy.errors import ConfigurationError

VARIABLE_PREFIX = "ORCHY_"


@attrs.frozen
class Config:
    """The settings of one server. SETTINGS says what each of them means."""

    bind_addr: HostPort
    advertise_addr: HostPort | None
    cluster_address: tuple[HostPort, ...]
    gossip_profile: str
    gossip_key: tuple[bytes, ...] = attrs.field(repr=False)
    grpc_port: int
    grpc_tls_cert: Path | None
    grpc_tls_key: Path | None
    http_port: int
    http_host: tuple[str, ...]
    http_requests_per_second: int
    node_name: str
    redis_addr: tuple[HostPort, ...]
    redis_username: str | None
    redis_password: str | None = attrs.field(repr=False)
    redis_tls: bool
    namespace: str
    partitions: int
    batch_size: int
    data_dir: Path
    log_level: str
    log_format: str
    javascript_engine: str
    javascript_workers: int
    javascript_time_limit_seconds: float
    retention_seconds: float
    default_timeout_seconds: float
    worker_lease_seconds: float
    body_limit_bytes: int
    flow_limit_bytes: int
    workflow_limit: int
    workflow_version_limit: int
    action_limit: int
    drain_seconds: float


# Parsers: the value of a text, or a ValueError that says what it must be.


def _host_ports(text: str) -> tuple[HostPort, ...]:
    return tuple(parse_host_port(part) for part in text.split(",") if part.strip())


def _port(text: str) -> int:
    return _whole(0, 65_535)(text)


def _whole(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"\d{1,18}", text.strip()) or not least <= int(text) <= most:
            raise ValueError(f"must be a whole number from {least} to {most}")
        return int(text)

    return parse


def _seconds(least: float, most: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not least <= number <= most:
            raise ValueError(f"must be a number of seconds from {least:g} to {most:g}")
        return number

    return parse


def _name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", text):
        raise ValueError("must be 1 to 64 of the characters A-Z a-z 0-9 . _ -, the first a letter or a digit")
    return text


def _host_names(text: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    for name in names:
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,253}|\[?[0-9A-Fa-f:.]{2,45}\]?", name):
            raise ValueError("must be names or addresses of hosts, without a port, such as orchy.example.com")
    return names


def _gossip_keys(text: str) -> tuple[bytes, ...]:
    keys = []
    for part in text.split(","):
        try:
            keys.append(base64.b64decode(part.strip(), validate=True))
        except ValueError:
            keys.append(b"")
    if any(len(key) not in (16, 24, 32) for key in keys):
        raise ValueError("must be keys of 16, 24 or 32 bytes in Base64, such as openssl rand -base64 32 makes them")
    return tuple(keys)


def _choice(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return text.lower()

    return parse


def _boolean(text: str) -> bool:
    known = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
    if text.lower() not in known:
        raise ValueError("must be true or false")
    return known[text.lower()]


@attrs.frozen
class Setting:
    """One setting. `default` is a text as a user would give it, or None."""

    name: str
    parse: Callable[[str], Any]
    default: str | None
    help: str
    group: str
    metavar: str = "N"
    repeats: bool = False
    secret: bool = False

    @property
    def flag(self) -> str:
        """Its name on the command line."""
        return f"--{self.name}"

    @property
    def variable(self) -> str:
        """Its name in the environment."""
        return VARIABLE_PREFIX + self.name.upper().replace("-", "_")


_STORAGE = _choice("embedded", "redis")
SETTINGS: tuple[Setting, ...] = (
    Setting(
        "bind-addr",
        parse_host_port,
        "127.0.0.1:8400",
        "address of the gossip (UDP and TCP); its host is also what REST and gRPC listen on",
        "cluster",
        "HOST:PORT",
    ),
    Setting(
        "advertise-addr",
        parse_host_port,
        None,
        "what other nodes are told to use; needed when binding 0.0.0.0 (default: the bind address)",
        "cluster",
        "HOST:PORT",
    ),
    Setting(
        "cluster-address",
        _host_ports,
        None,
        "a node of an existing cluster; may be repeated or comma-separated; if it is this node, it starts one",
        "cluster",
        "HOST:PORT",
        repeats=True,
    ),
    Setting(
        "gossip-profile",
        _choice("default", "fast"),
        "default",
        "default for a data centre; fast for one host or rack: who dies is noticed sooner",
        "cluster",
        "NAME",
    ),
    Setting(
        "gossip-key",
        _gossip_keys,
        None,
        "key in Base64 with which the gossip is encrypted, the same on all nodes; several to change it: the first one"
        " encrypts, each one opens; better given by the variable",
        "cluster",
        "KEY",
        repeats=True,
        secret=True,
    ),
    Setting("node-name", _name, None, "unique in the cluster (default: the host's name)", "cluster", "NAME"),
    Setting("grpc-port", _port, "8099", "port for workers", "listeners"),
    Setting(
        "grpc-tls-cert",
        Path,
        None,
        "PEM file with the certificate that workers are shown; they need TLS then",
        "listeners",
        "FILE",
    ),
    Setting("grpc-tls-key", Path, None, "PEM file with its key, without a password", "listeners", "FILE"),
    Setting("http-port", _port, "8080", "port for REST", "listeners"),
    Setting(
        "http-host",
        _host_names,
        None,
        "a name under which browsers and clients reach REST, beside localhost and this node's own addresses; may be"
        " repeated or comma-separated; requests to any other are refused",
        "listeners",
        "NAME",
        repeats=True,
    ),
    Setting(
        "http-requests-per-second",
        _whole(0, 1_000_000),
        "10000",
        "most REST requests a second, of all clients together; 0: any number",
        "listeners",
    ),
    Setting("body-limit-bytes", _whole(1_000, 2**30), str(10 * 2**20), "largest body of a REST request", "listeners"),
    Setting(
        "drain-seconds", _seconds(0, 3_600), "10", "how long calls under way may take to end at a stop", "listeners"
    ),
    Setting(
        "storage-impl",
        _STORAGE,
        None,
        "embedded or redis (default: redis with --redis-addr, else embedded)",
        "store",
        "KIND",
    ),
    Setting("queue-impl", _STORAGE, None, "as --storage-impl, with which it must agree", "store", "KIND"),
    Setting(
        "redis-addr", _host_ports, None, "one address: one server; several: a Redis Cluster", "store", "HOST:PORT[,...]"
    ),
    Setting("redis-username", str, None, "user of the Redis server", "store", "NAME"),
    Setting("redis-password", str, None, "its password; better given by the variable", "store", "TEXT", secret=True),
    Setting("redis-tls", _boolean, "false", "speak TLS to Redis", "store", "BOOL"),
    Setting("namespace", _name, "orchy", "prefix of every key; two namespaces share nothing", "store", "NAME"),
    Setting("partitions", _whole(1, 16_384), "64", "fixed when a namespace is first used", "store"),
    Setting("data-dir", Path, "./orchy-data", "where the embedded store keeps its append-only file", "store", "PATH"),
    Setting("batch-size", _whole(1, 100), "100", "most items one internal step takes at once", "engine"),
    Setting("retention-seconds", _seconds(0, 1e9), "604800", "how long a flow is kept after its end", "engine"),
    Setting(
        "default-timeout-seconds",
        _seconds(0.001, 1e9),
        "3600",
        "how long an attempt may take whose action says nothing else",
        "engine",
    ),
    Setting(
        "flow-limit-bytes",
        _whole(1_000, 2**30),
        str(32 * 2**20),
        "most that a flow holds, input, outputs and kept events together: an output that makes it more fails the flow",
        "engine",
    ),
    Setting("workflow-limit", _whole(1, 10**6), "10000", "most workflows, with those that were deleted", "engine"),
    Setting("workflow-version-limit", _whole(1, 10**6), "1000", "most versions of a workflow", "engine"),
    Setting("action-limit", _whole(1, 10**5), "5000", "most action definitions", "engine"),
    Setting(
        "worker-lease-seconds",
        _seconds(5, 3_600),
        "30",
        "how long a worker on a stream may be silent before what it holds is handed out again",
        "engine",
    ),
    Setting(
        "javascript-engine", _choice("quickjs", "v8"), "quickjs", "quickjs, or v8 for heavy computing", "engine", "NAME"
    ),
    Setting("javascript-workers", _whole(1, 256), "2", "scripts that run at the same time", "engine"),
    Setting("javascript-time-limit-seconds", _seconds(0.01, 60), "1", "how long a script may run", "engine"),
    Setting(
        "log-level",
        _choice("debug", "info", "warning", "error"),
        "info",
        "debug, info, warning or error",
        "logging",
        "LEVEL",
    ),
    Setting("log-format", _choice("text", "json"), "text", "text or json", "logging", "FORMAT"),
)
_BY_NAME = {setting.name: setting for setting in SETTINGS}


def load(
    flags: Mapping[str, Any], environment: Mapping[str, str], file: Mapping[str, Any] | None, host_name: str
) -> Config:
    """The settings from flags (by the names of settings), environment and file.

    Raises ConfigurationError with one line for each mistake.
    """
    problems: list[str] = []
    texts: dict[str, tuple[str, str]] = {}  # name -> (text, where it came from)
    for name, value in (file or {}).items():
        setting = _BY_NAME.get(name.replace("_", "-"))
        if setting is None:
            problems.append(f"the configuration file has an unknown key {name!r}{_did_you_mean(name, _BY_NAME)}")
        else:
            texts[setting.name] = (_text(value), f"{name} in the configuration file")
    variables = {setting.variable: setting for setting in SETTINGS}
    for variable, value in environment.items():
        if variable in variables:
            texts[variables[variable].name] = (value, variable)
        elif variable.startswith(VARIABLE_PREFIX) and variable != "ORCHY_CONFIG_FILE":
            problems.append(f"unknown variable {variable}{_did_you_mean(variable, variables)}")
    for name, value in flags.items():
        if value is not None:
            texts[name] = (_text(value), _BY_NAME[name].flag)
    values: dict[str, Any] = {}
    for setting in SETTINGS:
        text, source = texts.get(setting.name, (setting.default, "the default"))
        try:
            values[setting.name] = None if text is None else setting.parse(text)
        except ValueError as error:
            shown = "" if setting.secret else f" is {text!r} but"
            problems.append(f"{source}{shown} {error}")
            values[setting.name] = None
    problems += _settle(values, host_name)
    if problems:
        raise ConfigurationError("\n".join(problems))
    return Config(**{attribute.name: values[attribute.name.replace("_", "-")] for attribute in attrs.fields(Config)})


def _settle(values: dict[str, Any], host_name: str) -> list[str]:
    """Fill in the defaults that follow from other settings; returns what does not go together."""
    problems = []
    values["redis-addr"] = values["redis-addr"] or ()
    values["cluster-address"] = values["cluster-address"] or ()
    values["http-host"] = values["http-host"] or ()
    values["gossip-key"] = values["gossip-key"] or ()
    values["node-name"] = values["node-name"] or re.sub(r"[^A-Za-z0-9._-]", "-", host_name)[:64].lstrip("._-") or "node"
    kinds = {values["storage-impl"], values["queue-impl"]} - {None}
    if len(kinds) == 2:
        problems.append("--storage-impl and --queue-impl must agree: state and queues are kept together")
    elif "redis" in kinds and not values["redis-addr"]:
        problems.append("--storage-impl redis needs --redis-addr")
    elif "embedded" in kinds and values["redis-addr"]:
        problems.append("--storage-impl embedded does not go with --redis-addr")
    if values["redis-username"] and values["redis-password"] is None:
        problems.append("--redis-username needs --redis-password")
    if (values["grpc-tls-cert"] is None) != (values["grpc-tls-key"] is None):
        problems.append("--grpc-tls-cert and --grpc-tls-key go together")
    bind = values["bind-addr"]
    if bind and bind.host in ("0.0.0.0", "::") and values["advertise-addr"] is None:
        problems.append(f"--bind-addr {bind} needs --advertise-addr: other nodes can't reach {bind.host}")
    return problems


def _text(value: Any) -> str:
    """A value of a TOML file or of a repeated flag, as a text."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ",".join(map(str, value))
    return str(value)


def _did_you_mean(name: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, known, 1)
    return f" (did you mean {close[0]}?)" if close else ""


def read_file(path: Path) -> dict[str, Any]:
    """A TOML configuration file. Raises ConfigurationError."""
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigurationError(f"the configuration file {path} can't be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the configuration file {path} is not TOML: {error}") from None
