"""Settings: their sources, which of them wins, and all mistakes at once."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchy.addresses import HostPort, parse_host_port
from orchy.commands.serve import make_parser
from orchy.errors import ConfigurationError
from orchy.server.config import SETTINGS, load, read_file


def settings(flags=None, environment=None, file=None):
    return load(flags or {}, environment or {}, file, "my host.example")


def problems(**given):
    with pytest.raises(ConfigurationError) as caught:
        settings(**given)
    return str(caught.value).splitlines()


def test_the_defaults_are_those_of_the_contract():
    config = settings()
    assert config.bind_addr == HostPort("127.0.0.1", 8400)
    assert (config.grpc_port, config.http_port, config.partitions, config.batch_size) == (8099, 8080, 64, 100)
    assert (config.namespace, str(config.data_dir), config.log_level, config.log_format) == (
        "orchy", "orchy-data", "info", "text",
    )  # fmt: skip
    assert config.redis_addr == ()
    assert config.node_name == "my-host.example"


def test_a_flag_beats_the_environment_which_beats_the_file():
    file = {"http-port": 1, "grpc_port": 2, "namespace": "file"}
    config = settings({"namespace": "flag"}, {"ORCHY_GRPC_PORT": "3", "ORCHY_NAMESPACE": "variable"}, file)
    assert (config.http_port, config.grpc_port, config.namespace) == (1, 3, "flag")


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_each_setting_has_a_flag_and_help(setting):
    text = make_parser().format_help()
    assert setting.flag in text


def test_lists_of_addresses():
    expected = (HostPort("a", 1), HostPort("::1", 2))
    assert settings({"cluster-address": ["a:1", "[::1]:2"]}).cluster_address == expected
    assert settings(file={"redis-addr": ["a:1", "[::1]:2"]}).redis_addr == expected
    assert settings(environment={"ORCHY_REDIS_ADDR": "a:1,[::1]:2"}).redis_addr == expected


def test_names_of_this_node():
    assert settings().http_host == ()
    names = ("orchy.example.com", "10.0.0.5", "[fd00::5]")
    assert settings({"http-host": ["orchy.example.com", "10.0.0.5,[fd00::5]"]}).http_host == names
    assert settings(environment={"ORCHY_HTTP_HOST": ",".join(names)}).http_host == names


@pytest.mark.parametrize(
    ("given_settings", "words"),
    [
        ({"http-port": "65536"}, "--http-port"),
        ({"bind-addr": "nowhere"}, "HOST:PORT"),
        ({"partitions": "0"}, "from 1 to"),
        ({"namespace": "a b"}, "characters"),
        ({"log-level": "loud"}, "one of debug"),
        ({"retention-seconds": "-1"}, "seconds"),
        ({"redis-tls": "perhaps"}, "true or false"),
        ({"grpc-tls-cert": "cert.pem"}, "--grpc-tls-cert and --grpc-tls-key go together"),
        ({"grpc-tls-key": "key.pem"}, "--grpc-tls-cert and --grpc-tls-key go together"),
        ({"storage-impl": "redis"}, "--redis-addr"),
        ({"storage-impl": "embedded", "queue-impl": "redis", "redis-addr": "a:1"}, "must agree"),
        ({"storage-impl": "embedded", "redis-addr": "a:1"}, "does not go with"),
        ({"redis-addr": "a:1", "redis-username": "me"}, "--redis-password"),
        ({"bind-addr": "0.0.0.0:1"}, "--advertise-addr"),
        ({"http-host": "a.example:80"}, "without a port"),
        ({"http-host": "http://a.example"}, "without a port"),
        ({"http-requests-per-second": "-1"}, "from 0 to"),
    ],
)
def test_mistakes_are_reported(given_settings, words):
    (line,) = problems(flags=given_settings)
    assert words in line


def test_all_mistakes_are_reported_at_once_with_their_sources():
    told = problems(
        flags={"http-port": "x"},
        environment={"ORCHY_GRPC_PORT": "y", "ORCHY_NAMESPCE": "z"},
        file={"partitons": 3, "data_dir": "/tmp", "batch-size": 0},
    )
    assert len(told) == 5
    for words in (
        "--http-port",
        "ORCHY_GRPC_PORT",
        "ORCHY_NAMESPACE?",
        "partitions?",
        "batch-size in the configuration",
    ):
        assert any(words in line for line in told), (words, told)


def test_a_password_is_never_shown():
    config = settings({"redis-addr": "a:1", "redis-password": "hush"})
    assert config.redis_password == "hush"
    assert "hush" not in repr(config)


def test_unreadable_files(tmp_path):
    with pytest.raises(ConfigurationError, match="can't be read"):
        read_file(tmp_path / "nowhere.toml")
    (tmp_path / "bad.toml").write_text("a = = b")
    with pytest.raises(ConfigurationError, match="not TOML"):
        read_file(tmp_path / "bad.toml")
    (tmp_path / "good.toml").write_text('namespace = "a"\nhttp-port = 1\n')
    assert read_file(tmp_path / "good.toml") == tomllib.loads('namespace = "a"\nhttp-port = 1')


@given(st.text())
def test_any_text_is_an_address_or_a_clear_error(text):
    try:
        address = parse_host_port(text)
    except ValueError as error:
        assert "HOST:PORT" in str(error)
    else:
        assert parse_host_port(str(address)) == address
