"""A real server with a certificate, and workers that trust it, or do not."""

from __future__ import annotations

import ssl
import threading

import grpc
import pytest

from orchy.rpc.generated import health_pb2 as health
from orchy.worker import Worker
from tests.certificates import make_certificate

pytestmark = pytest.mark.real

WORKFLOW = {"name": "one", "rootAction": 1, "actions": [{"id": 1, "type": "user", "name": "act"}]}


@pytest.fixture
def files(tmp_path):
    return make_certificate(tmp_path)


@pytest.fixture
def server(orchy_server, files):
    return orchy_server("--grpc-tls-cert", str(files[0]), "--grpc-tls-key", str(files[1])).start()


def test_a_worker_of_the_library_works_over_tls(server, files, wait_for):
    worker = Worker(server.grpc, tls=ssl.create_default_context(cafile=files[0]))

    @worker.action("act")
    def act(data):
        return {"done": True}

    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        server.post("/workflow", WORKFLOW)
        flow_id = server.post("/flow/execute", {"name": "one", "input": {}})["flowId"]
        wait_for(lambda: server.get(f"/flow/{flow_id}")["state"] == "COMPLETED")
        assert server.get(f"/flow/{flow_id}")["data"]["1"]["output"] == {"done": True}
    finally:
        worker.stop()
        thread.join(30)
    assert not thread.is_alive()


def test_a_worker_that_does_not_trust_the_server_says_so(server, wait_for, caplog):
    worker = Worker(server.grpc, tls=True)
    worker.action("act")(lambda data: {})
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        wait_for(lambda: "CERTIFICATE_VERIFY_FAILED" in caplog.text)
    finally:
        worker.stop()
        thread.join(30)
    assert not thread.is_alive()


def test_grpcio_is_served_over_tls_and_refused_without(server, files):
    credentials = grpc.ssl_channel_credentials(files[0].read_bytes())
    for channel, serves in (
        (grpc.secure_channel(server.grpc, credentials), True),
        (grpc.insecure_channel(server.grpc), False),
    ):
        with channel:
            check = channel.unary_unary(
                "/grpc.health.v1.Health/Check",
                request_serializer=health.HealthCheckRequest.SerializeToString,
                response_deserializer=health.HealthCheckResponse.FromString,
            )
            if serves:
                assert check(health.HealthCheckRequest(), timeout=20).status == health.HealthCheckResponse.SERVING
            else:
                with pytest.raises(grpc.RpcError) as caught:
                    check(health.HealthCheckRequest(), timeout=20)
                assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
