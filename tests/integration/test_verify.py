"""`python -m orchy verify` on a real Redis: finds nothing in a sound namespace, and each defect in a broken one."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
import redis

from orchy.commands.verify.reader import Reader
from orchy.commands.verify.verifier import Verifier
from orchy.ring import partition_of

pytestmark = pytest.mark.real

PARTITIONS = 64
ACTIONS = [
    {"id": 1, "type": "system", "name": "javascript", "expression": "$.x = 1", "next": {"default": [2, 3, 4]}},
    {"id": 2, "type": "user", "name": "nobody-does-it"},
    {"id": 3, "type": "system", "name": "delay", "delaySeconds": 3_000},
    {"id": 4, "type": "system", "name": "wait", "event": "go", "timeoutSeconds": 3_000},
]
LONG = {"name": "long", "rootAction": 1, "actions": ACTIONS}
SHORT = {"name": "short", "rootAction": 1, "actions": [{**ACTIONS[0], "next": {}}]}
GONE = {**SHORT, "name": "gone", "onSuccess": "DELETE"}


@pytest.fixture(scope="module")
def made(tmp_path_factory, valkey_port):
    """A namespace with flows that wait, are paused, have ended or were removed; its server has stopped."""
    from tests.conftest import OrchyServer

    namespace = f"verify-{os.getpid()}"
    folder = tmp_path_factory.mktemp("verify")
    flags = ["--redis-addr", f"127.0.0.1:{valkey_port}", "--namespace", namespace]
    server = OrchyServer(flags, folder / "server.log").start()
    try:
        for workflow in (LONG, SHORT, GONE):
            server.post("/workflow", workflow)
        for name in ("long", "paused", "cancelled", "short", "gone"):
            workflow = name if name in ("short", "gone") else "long"
            server.post("/flow/execute", {"name": workflow, "flowId": name})
        server.post("/flow/pause", {"name": "long", "flowId": "paused"})
        server.post("/flow/cancel", {"name": "long", "flowId": "cancelled"})
        assert server.get("/flow/short")["state"] == "COMPLETED"
    finally:
        server.kill()
    return namespace, valkey_port


@pytest.fixture
def copied(made, request):
    """A copy of the namespace to break: its Redis, and a function that verifies it."""
    namespace, port = made
    name = f"{namespace}-{abs(hash(request.node.name))}"
    client = redis.Redis(port=port)
    for key in client.scan_iter(f"*{namespace}*"):
        if b"-" not in key.replace(namespace.encode(), b"", 1).split(b":")[0]:
            copy = key.replace(namespace.encode(), name.encode(), 1)
            client.restore(copy, max(0, client.pttl(key)), client.dump(key), replace=True)

    def verify():
        return [str(finding) for finding in Verifier(Reader(client, name), again_seconds=0.01).run()]

    yield client, f"{{{name}:", verify
    client.close()


def prefix_of(beginning, flow_id):
    return f"{beginning}{partition_of(flow_id, PARTITIONS)}}}:"


def test_a_namespace_made_by_a_cluster_is_sound(made, copied):
    namespace, port = made
    assert copied[2]() == []
    command = [sys.executable, "-m", "orchy", "verify", "--redis-url", f"redis://127.0.0.1:{port}"]
    done = subprocess.run([*command, "--namespace", namespace], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    assert "4 flows, 3 queue entries (1 that the next poll drops)" in done.stderr
    assert "0 findings" in done.stderr


def quarantine(client, prefix, flow_id):
    """Quarantine a flow as the store does, when its timer is due."""
    client.hset(f"{prefix}f:{flow_id}", "u", b"1 KeyError: 'a bug'")
    client.zadd(f"{prefix}u", {flow_id: float(client.hget(f"{prefix}f:{flow_id}", "c"))})
    client.zrem(f"{prefix}t", f"d:3:1:{flow_id}")
    client.sadd(f"{prefix}a:{flow_id}", f"d:3:1:{flow_id}")


def test_a_flow_in_quarantine_is_sound(copied):
    client, beginning, verify = copied
    quarantine(client, prefix_of(beginning, "long"), "long")
    assert verify() == []


BREAKS = {
    "a quarantine that no index has": (
        "long",
        lambda r, p: r.hset(f"{p}f:long", "u", b"1 x"),
        "it is in quarantine, and the index u says otherwise",
    ),
    "an index of a quarantine that is none": (
        "long",
        lambda r, p: r.zadd(f"{p}u", {"long": 1}),
        "it is not in quarantine, and the index u says otherwise",
    ),
    "a quarantine of nobody": ("nobody", lambda r, p: r.zadd(f"{p}u", {"nobody": 1}), "there is no such flow"),
    "timers set aside of nobody": (
        "nobody",
        lambda r, p: r.sadd(f"{p}a:nobody", "d:1:1:nobody"),
        "there is no such flow, but timers set aside of it",
    ),
    "a queue entry is gone": (
        "long",
        lambda r, p: r.delete(f"{p}q:nobody-does-it"),
        "action 2, attempt 1 waits for a worker, and is in no queue",
    ),
    "a timer is gone": (
        "long",
        lambda r, p: r.zrem(f"{p}t", "d:3:1:long"),
        "action 3, attempt 1 waits for its timer d:3:1:long, which is not set",
    ),
    "a timer of what is over": (
        "short",
        lambda r, p: r.zadd(f"{p}t", {"t:1:1:short": 1}),
        "timer t:1:1:short: its flow is COMPLETED",
    ),
    "a timer of nobody": ("nobody", lambda r, p: r.zadd(f"{p}t", {"d:1:1:nobody": 1}), "there is no such flow"),
    "a timer that is none": ("x", lambda r, p: r.zadd(f"{p}t", {"what": 1}), "timer 'what': it is no timer"),
    "an entry that is none": ("long", lambda r, p: r.rpush(f"{p}q:nobody-does-it", b"what"), "is no entry"),
    "a queue that is not ready": (
        "long",
        lambda r, p: r.srem(f"{p}ready", "nobody-does-it"),
        "it has entries, and is not in the set ready",
    ),
    "an action that completed twice": (
        "short",
        lambda r, p: r.linsert(f"{p}h:short", "BEFORE", r.lindex(f"{p}h:short", -1), r.lindex(f"{p}h:short", -2)),
        "action 1 completed 2 times",
    ),
    "an end that the history does not know": (
        "short",
        lambda r, p: r.rpop(f"{p}h:short"),
        "its state is COMPLETED, its history says that it goes on",
    ),
    "a history that goes on after the end": (
        "short",
        lambda r, p: r.rpush(f"{p}h:short", b'99999999999999 ["Q",1,2]'),
        "the flow was over before",
    ),
    "a history without a flow": ("lost", lambda r, p: r.rpush(f"{p}h:lost", b'1 ["S"]'), "a history of it"),
    "no history": ("short", lambda r, p: r.delete(f"{p}h:short"), "it has no history"),
    "a flow that makes no sense": ("short", lambda r, p: r.hset(f"{p}f:short", "m", "?"), "its fields make no flow"),
    "a flow in the wrong partition": (
        "short",
        lambda r, p: r.copy(f"{p}f:short", f"{p.split(':')[0]}:{(partition_of('short', 64) + 1) % 64}}}:f:short"),
        f"it belongs to partition {partition_of('short', 64)}",
    ),
    "a flow that no list has": (
        "long",
        lambda r, p: r.zrem(f"{p}i:active:long", "long"),
        "not in the index i:active:long",
    ),
    "a list with a flow that is not there": (
        "short",
        lambda r, p: r.zadd(f"{p}i:completed:short", {"nobody": 5}),
        "index i:completed:short, flow nobody: there is no such flow",
    ),
    "an ended flow that stays for ever": (
        "short",
        lambda r, p: r.zrem(f"{p}x", "completed:short:short"),
        "its removal is not planned",
    ),
    "a removal of what goes on": (
        "long",
        lambda r, p: r.zadd(f"{p}x", {"completed:long:long": 5}),
        "planned removal completed:long:long: it is",
    ),
    "a pause without its mark": (
        "paused",
        lambda r, p: r.hdel(f"{p}f:paused", "p"),
        "the mark of a pause is not there",
    ),
    "a definition that is gone": (
        "long",
        lambda r, p: [r.hdel(key, "1") for key in r.scan_iter(f"*{p[1:].split(':')[0]}*") if r.type(key) == b"hash"],
        "its workflow long is not there",
    ),
    "a lease that is none": ("short", lambda r, p: r.hset(f"{p}own", "epoch", "x"), "lease: it is no lease"),
    "a key that Orchy has not": ("short", lambda r, p: r.set(f"{p}z:short", "x"), "Orchy has no such key"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_each_defect_is_found(copied, name):
    client, beginning, verify = copied
    flow_id, do, told = BREAKS[name]
    do(client, prefix_of(beginning, flow_id))
    findings = verify()
    assert any(told in finding for finding in findings), findings


def test_it_says_what_it_found_and_exits_with_1(copied, made):
    client, beginning, _ = copied
    client.zrem(f"{prefix_of(beginning, 'long')}t", "w:4:1:long")
    command = [sys.executable, "-m", "orchy", "verify", "--redis-url", f"redis://127.0.0.1:{made[1]}"]
    command += ["--namespace", beginning[1:-1]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    place = partition_of("long", PARTITIONS)
    wanted = "action 4, attempt 1 waits for its timer w:4:1:long, which is not set"
    assert done.stdout == f"partition {place}: flow long: {wanted}\n"
    assert "1 findings" in done.stderr


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (["--redis-url", "redis://:secret@127.0.0.1:1"], 1, "Redis at redis://127.0.0.1:1 can't be read"),
        (["--redis-url", "http://127.0.0.1"], 2, "--redis-url"),
        (["--namespace", "a{b"], 2, "namespace"),
    ],
)
def test_what_can_not_be_read_is_reported(made, flags, code, words):
    url = [] if "--redis-url" in flags else ["--redis-url", f"redis://127.0.0.1:{made[1]}"]
    command = [sys.executable, "-m", "orchy", "verify", *url, *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code
    assert words in done.stderr
    assert "secret" not in done.stderr


def test_a_cluster_at_work_is_sound(orchy_server, valkey_port):
    """What changes between two checks is checked again, and not reported."""
    namespace = f"verify-live-{os.getpid()}"
    server = orchy_server("--redis-addr", f"127.0.0.1:{valkey_port}", "--namespace", namespace).start()
    server.post(
        "/workflow",
        {**SHORT, "actions": [{**ACTIONS[0], "next": {"default": [2]}}, {**ACTIONS[2], "id": 2, "delaySeconds": 0.05}]},
    )
    client = redis.Redis(port=valkey_port)
    until = time.monotonic() + 3
    while time.monotonic() < until:
        server.post("/flow/execute", [{"name": "short"}] * 50)
        assert [str(one) for one in Verifier(Reader(client, namespace), again_seconds=0.2).run()] == []
    client.close()
