"""The demo succeeds on the embedded store, on a Redis, and on a Redis Cluster."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.real


def demo(*flags):
    return subprocess.run(
        [sys.executable, "-m", "orchy", "demo", *flags], capture_output=True, text=True, timeout=120, check=False
    )


def check(done):
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All went as it should." in done.stdout
    assert "sendSms to 555-0101: 'Hi hi first sms get discount 20 %'" in done.stdout
    assert "completed -> open" in done.stdout


def test_on_the_embedded_store():
    check(demo())


def test_on_three_nodes_one_of_which_is_killed():
    done = demo("--nodes", "3")
    check(done)
    assert "demo3 is killed" in done.stdout
    assert "Partitions: demo1 32, demo2 32" in done.stdout


def test_on_a_redis(valkey_port):
    check(demo("--redis-addr", f"127.0.0.1:{valkey_port}"))


def test_on_a_redis_cluster(cluster_ports):
    check(demo("--redis-addr", ",".join(f"127.0.0.1:{port}" for port in cluster_ports)))


def test_a_server_that_can_not_start_is_reported():
    done = demo("--redis-addr", "127.0.0.1:1")
    assert done.returncode == 1
    assert "127.0.0.1:1" in done.stderr
