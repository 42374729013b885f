"""Slips of an operator at real nodes: each is told in one line, and nobody else notices."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.real


def test_a_second_node_on_one_data_directory_is_refused_and_others_can_still_join(orchy_server, tmp_path, wait_for):
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
