"""One real server for all tests of a file."""

from __future__ import annotations

import pytest

from tests.conftest import OrchyServer


@pytest.fixture(scope="module")
def start_shared_server(tmp_path_factory):
    """Starts servers with an embedded store; they end with the file."""
    servers = []

    def start(*flags):
        folder = tmp_path_factory.mktemp("listener")
        servers.append(OrchyServer(["--data-dir", str(folder / "data"), *flags], folder / "server.log").start())
        return servers[-1]

    yield start
    for server in servers:
        server.kill()
