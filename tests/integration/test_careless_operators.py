"""Mistakes of an operator at real nodes: each is reported in one line, and disturbs nobody else."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.request

import pytest
import redis

pytestmark = pytest.mark.real


def test_a_second_node_on_a_data_directory_is_refused_and_others_can_still_join(orchy_server, tmp_path, wait_for):
    data = str(tmp_path / "data")
    first = orchy_server("--data-dir", data, "--node-name", "first").start()
    command = [sys.executable, "-m", "orchy", "--data-dir", data, "--bind-addr", "127.0.0.1:0"]
    began = time.monotonic()
    second = subprocess.run(
        [*command, "--http-port", "0", "--grpc-port", "0", "--node-name", "second"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert second.returncode == 1
    assert "another node uses the data directory" in second.stderr
    assert time.monotonic() - began < 9  # before: 11 s
    third = orchy_server("--cluster-address", f"127.0.0.1:{first.gossip_port}", "--node-name", "third").start()
    wait_for(lambda: len(third.get("/cluster")["members"]) == 2)
    assert first.get("/flow") == {"flows": [], "cursor": None}


def test_after_flushall_the_settings_are_restored_and_the_loss_is_logged(orchy_server, valkey_port, wait_for):
    node = orchy_server("--redis-addr", f"127.0.0.1:{valkey_port}", "--namespace", "flushed").start()
    with redis.Redis(port=valkey_port) as client:
        before = client.hgetall("{flushed}:settings")
        assert before
        client.flushall()
        wait_for(lambda: client.hgetall("{flushed}:settings") == before)
    wait_for(lambda: "LOST DATA" in node.log_path.read_text())
    assert "somebody else has taken them" not in node.log_path.read_text()
    wait_for(lambda: node.get("/health/ready")["ready"])
    assert "orchy_store_losses_total 1" in http_text(node, "/metrics")
    assert node.stop() == 0


def http_text(node, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{node.http_port}{path}", timeout=20) as response:
        return response.read().decode()
