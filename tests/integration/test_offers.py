"""Workers that know only one node, as existing ones do, get the work of all partitions."""

from __future__ import annotations

import itertools
import os
import time
from datetime import datetime

import grpc
import pytest

from orchy.rpc.generated import action_service_pb2 as pb

pytestmark = pytest.mark.real

NAMESPACES = itertools.count()
FLOWS = 60
POLL_SECONDS = 0.5
GIVE_UP_SECONDS = 60
ONE = {"name": "one", "rootAction": 1, "actions": [{"id": 1, "type": "user", "name": "work"}]}


def test_a_worker_that_polls_one_node_gets_the_work_of_all(orchy_server, valkey_port):
    flags = ["--redis-addr", f"127.0.0.1:{valkey_port}", "--partitions", "16", "--gossip-profile", "fast"]
    flags += ["--namespace", f"offers-{os.getpid()}-{next(NAMESPACES)}"]
    nodes = []
    for number in range(3):
        joins = ["--cluster-address", f"127.0.0.1:{nodes[0].gossip_port}"] if nodes else []
        nodes.append(orchy_server(*flags, "--node-name", f"n{number}", *joins).start())
    first = nodes[0]
    first.post("/workflow", ONE)
    done = set()
    with grpc.insecure_channel(nodes[1].grpc) as channel:
        poll = channel.unary_unary("/ActionService/Poll", pb.ActionPollRequest.SerializeToString, pb.Actions.FromString)
        push = channel.unary_unary(
            "/ActionService/Push", pb.ActionResult.SerializeToString, pb.ActionResultPushResponse.FromString
        )
        flow_ids = []
        for batch in range(3):
            answers = nodes[batch].post("/flow/execute", [{"name": "one", "input": {}} for _ in range(FLOWS // 3)])
            flow_ids += [answer["flowId"] for answer in answers]
            give_up_at = time.monotonic() + GIVE_UP_SECONDS
            while len(done) < len(flow_ids):
                assert time.monotonic() < give_up_at, f"{len(done)} of {len(flow_ids)} were handed out"
                for action in poll(pb.ActionPollRequest(actionType="work", batchSize=10, workerId="w")).actions:
                    push(pb.ActionResult(flowId=action.flowId, actionId=1, retryCount=action.retryCount))
                    done.add(action.flowId)
                if len(done) < len(flow_ids):
                    time.sleep(POLL_SECONDS)
    waits = []
    for flow_id in flow_ids:
        lines = {line["type"]: line["time"] for line in first.get(f"/flow/{flow_id}/history")["history"]}
        waits.append(_seconds(lines["handedOut"]) - _seconds(lines["scheduled"]))
        assert first.get(f"/flow/{flow_id}")["state"] == "COMPLETED"
    print(f"waited for a worker: at most {max(waits):.2f} s")


def _seconds(text):
    return datetime.fromisoformat(text).timestamp()
