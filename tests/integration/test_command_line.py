"""The command line from outside: each mistake is reported in one line, and a stop drains."""

from __future__ import annotations

import os
import platform
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.real

ANY_PORTS = ("--bind-addr", "127.0.0.1:0", "--http-port", "0", "--grpc-port", "0")


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
def test_a_taken_port(tmp_path, taken_port, flag):
    done = orchy("--data-dir", str(tmp_path), *ANY_PORTS, flag, str(taken_port))
    assert done.returncode == 1
    assert str(taken_port) in complaint(done)
    assert flag in complaint(done)


def test_a_missing_certificate(tmp_path):
    flags = ("--grpc-tls-cert", str(tmp_path / "cert.pem"), "--grpc-tls-key", str(tmp_path / "key.pem"))
    done = orchy("--data-dir", str(tmp_path), *ANY_PORTS, *flags)
    assert done.returncode == 2
    assert "--grpc-tls-cert" in complaint(done)
    assert "cert.pem can't be read" in complaint(done)


def test_an_unreachable_redis(taken_port):
    done = orchy("--redis-addr", "127.0.0.1:1", *ANY_PORTS)
    assert done.returncode == 1
    assert "127.0.0.1:1" in complaint(done)
    assert "--redis-addr" in complaint(done)


def test_a_different_partition_count(orchy_server, tmp_path):
    server = orchy_server("--partitions", "8", "--data-dir", str(tmp_path)).start()
    assert server.stop() == 0
    done = orchy("--partitions", "16", "--data-dir", str(tmp_path), *ANY_PORTS)
    assert done.returncode == 2
    assert " 8 " in complaint(done)
    assert " 16" in complaint(done)


def test_a_data_directory_in_use(orchy_server, tmp_path):
    orchy_server("--data-dir", str(tmp_path)).start()
    done = orchy("--data-dir", str(tmp_path), *ANY_PORTS)
    assert done.returncode == 1
    assert "--data-dir" in complaint(done)


def test_all_mistakes_of_a_configuration_are_reported_at_once(tmp_path):
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
    for word in ("--bind-addr", "--redis-addr", "--partitions", "--javascript-engine", "demo", "verify"):
        assert word in text


def test_a_stop_drains(orchy_server):
    server = orchy_server().start()
    assert server.stop() == 0
    assert "stopped" in server.log_path.read_text()


def test_a_node_says_at_debug_which_python_it_runs_on(orchy_server):
    server = orchy_server("--log-level", "debug").start()
    assert f"{platform.python_implementation()} {platform.python_version()}" in server.log_path.read_text()
    server.stop()
    quiet = orchy_server().start()
    assert platform.python_version() not in quiet.log_path.read_text()


def wait_for_line(server, line, wait_for):
    wait_for(lambda: line in server.log_path.read_text(), what=server.log_path)


def begin(server):
    """Start it without waiting until it serves."""
    command = [sys.executable, "-m", "orchy", "--bind-addr", f"127.0.0.1:{server.gossip_port}"]
    command += ["--http-port", str(server.http_port), "--grpc-port", str(server.grpc_port), *server.flags]
    with server.log_path.open("ab") as log:
        server.process = subprocess.Popen(command, stdout=log, stderr=log)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_node_that_waits_for_its_cluster(orchy_server, wait_for, number):
    server = orchy_server("--cluster-address", "127.0.0.1:1", "--log-level", "debug")
    begin(server)
    wait_for_line(server, "was not asked for the store", wait_for)
    server.process.send_signal(number)
    assert server.process.wait(10) == 0
    assert "Traceback" not in server.log_path.read_text()


def test_a_signal_ends_a_node_that_waits_for_its_name(orchy_server, wait_for, valkey_port):
    flags = ("--redis-addr", f"127.0.0.1:{valkey_port}", "--namespace", f"names-{os.getpid()}", "--node-name", "a")
    orchy_server(*flags).start().kill()
    server = orchy_server(*flags)
    begin(server)
    wait_for_line(server, "waiting to see whether it lives", wait_for)
    server.process.terminate()
    assert server.process.wait(10) == 0
    assert "Traceback" not in server.log_path.read_text()


@pytest.mark.parametrize("seconds", [0.1, 0.2, 0.4, 0.8])
def test_a_signal_ends_a_node_in_the_middle_of_its_start(orchy_server, wait_for, seconds):
    """From when our code runs: before that, the signal kills the interpreter."""
    server = orchy_server("--log-level", "debug")
    begin(server)
    wait_for(lambda: signal.SIGTERM in caught_signals(server.process.pid))
    time.sleep(seconds)
    server.process.terminate()
    assert server.process.wait(20) == 0
    assert "Traceback" not in server.log_path.read_text()


def caught_signals(pid):
    """The signals for which a process has a handler."""
    status = Path(f"/proc/{pid}/status").read_text()
    mask = int(status.partition("SigCgt:")[2].split()[0], 16)
    return {number for number in signal.valid_signals() if mask >> (number - 1) & 1}
