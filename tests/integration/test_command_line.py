"""The command line from outside: each thing that can be wrong is one line, and a stop drains."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

pytestmark = pytest.mark.real


def orchy(*args, **variables):
    done = subprocess.run(
        [sys.executable, "-m", "orchy", *args],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **variables},
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def complaint(done):
    lines = [line for line in done.stderr.splitlines() if line.startswith("orchy: ")]
    assert len(lines) == 1, done.stderr
    return lines[0]


@pytest.fixture
def taken_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        yield taken.getsockname()[1]


@pytest.mark.parametrize("flag", ["--http-port", "--grpc-port"])
def test_a_port_that_is_taken(tmp_path, taken_port, flag):
    done = orchy("--data-dir", str(tmp_path), "--http-port", "0", "--grpc-port", "0", flag, str(taken_port))
    assert done.returncode == 1
    assert str(taken_port) in complaint(done)
    assert flag in complaint(done)


def test_a_certificate_that_is_not_there(tmp_path):
    flags = ("--grpc-tls-cert", str(tmp_path / "cert.pem"), "--grpc-tls-key", str(tmp_path / "key.pem"))
    done = orchy("--data-dir", str(tmp_path), "--http-port", "0", "--grpc-port", "0", *flags)
    assert done.returncode == 2
    assert "--grpc-tls-cert" in complaint(done)
    assert "cert.pem can't be read" in complaint(done)


def test_a_redis_that_is_not_there(taken_port):
    done = orchy("--redis-addr", "127.0.0.1:1", "--http-port", "0", "--grpc-port", "0")
    assert done.returncode == 1
    assert "127.0.0.1:1" in complaint(done)
    assert "--redis-addr" in complaint(done)


def test_a_partition_count_that_is_another(orchy_server, tmp_path):
    server = orchy_server("--partitions", "8", "--data-dir", str(tmp_path)).start()
    assert server.stop() == 0
    ports = ("--http-port", "0", "--grpc-port", "0")
    done = orchy("--partitions", "16", "--data-dir", str(tmp_path), *ports)
    assert done.returncode == 2
    assert " 8 " in complaint(done)
    assert " 16" in complaint(done)


def test_a_data_directory_that_is_in_use(orchy_server, tmp_path):
    orchy_server("--data-dir", str(tmp_path)).start()
    done = orchy("--data-dir", str(tmp_path), "--http-port", "0", "--grpc-port", "0")
    assert done.returncode == 1
    assert "--data-dir" in complaint(done)


def test_all_mistakes_of_a_configuration_are_told_at_once(tmp_path):
    file = tmp_path / "orchy.toml"
    file.write_text('http-prot = 1\nnamespace = "a b"\n')
    done = orchy("--config-file", str(file), "--grpc-port", "x", ORCHY_PARTITIONS="0")
    assert done.returncode == 2
    told = [line for line in done.stderr.splitlines() if line.startswith("orchy: ")]
    assert len(told) == 4
    for words in ("did you mean http-port", "namespace", "--grpc-port", "ORCHY_PARTITIONS"):
        assert any(words in line for line in told), told


def test_help_and_version():
    assert orchy("--version").stdout.startswith("orchy ")
    text = orchy("--help").stdout
    for flag in ("--bind-addr", "--redis-addr", "--partitions", "--javascript-engine", "demo"):
        assert flag in text


def test_a_stop_drains(orchy_server):
    server = orchy_server().start()
    assert server.stop() == 0
    assert "stopped" in server.log_path.read_text()
