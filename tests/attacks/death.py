"""Forged evidence that processes are gone, sent by strangers about live nodes."""

from __future__ import annotations

import socket
import time
import urllib.request

from orchy.swim.codec import encode, join
from orchy.swim.messages import Closed, Dead, Message
from tests.attacks.gossip import envelope_of
from tests.attacks.harness import Target, attack
from tests.conftest import OrchyServer

ROUNDS = 300
#: Longer than the debounce, so that partitions would have moved by then.
LOOK_SECONDS = 3.0
WHOLE_SECONDS = 30.0


def _whole(target: Target) -> dict[str, int]:
    """Wait until all nodes are alive for each other and own partitions; returns their incarnations."""
    names = {f"node-{number}" for number in range(len(target.nodes))}
    give_up_at = time.monotonic() + WHOLE_SECONDS
    while True:
        seen = [node.get("/cluster") for node in target.nodes]
        alive = [{member["name"] for member in one["members"] if member["state"] == "alive"} for one in seen]
        owners = [{partition["owner"] for partition in one["partitions"]} for one in seen]
        if all(one == names for one in [*alive, *owners]):
            return {member["name"]: member["incarnation"] for member in seen[0]["members"]}
        assert time.monotonic() < give_up_at, f"they see {alive}, owners {owners}"
        time.sleep(0.1)


def _epochs(node: OrchyServer) -> list[int]:
    return [partition["epoch"] for partition in node.get("/cluster")["partitions"]]


def _dropped(node: OrchyServer) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{node.http_port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("orchy_gossip_dropped"))


def _send(target: Target, messages: list[Message]) -> None:
    """Send messages to every node, from a port that is no member's."""
    envelope = envelope_of(target)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for node in target.nodes:
            for message in messages:
                sender.sendto(envelope.seal(join([encode(message)])), ("127.0.0.1", node.gossip_port))


def _nobody_moved(target: Target, before: list[int], dropped: float) -> None:
    time.sleep(LOOK_SECONDS)
    _whole(target)
    assert _epochs(target.node) == before, "partitions have moved"
    assert _dropped(target.node) - dropped < ROUNDS, "the node did not even take the packets in: is the label another?"
    for node in target.nodes:
        assert "nothing listens" not in node.log_path.read_text()


@attack("a stranger says, in the names of two members, that the third one is refused", nodes=3)
def forged_refusals(target: Target) -> str:
    """Each node checks for itself, and gets an answer."""
    incarnations = _whole(target)
    before, dropped = _epochs(target.node), _dropped(target.node)
    names = sorted(incarnations)
    for _ in range(ROUNDS):
        _send(
            target,
            [
                Closed(name, incarnations[name], source, sure=True)
                for name in names
                for source in names
                if source != name
            ],
        )
    _nobody_moved(target, before, dropped)
    return f"{ROUNDS * 18} packets: nobody was taken for dead, nothing moved"


@attack("a stranger says of each member that it is dead by evidence", nodes=3)
def forged_evidence_of_death(target: Target) -> str:
    """It counts as any other rumour of a death, until the member refutes it; no lease is taken because of it."""
    incarnations = _whole(target)
    before, dropped = _epochs(target.node), _dropped(target.node)
    names = sorted(incarnations)
    for name in names:
        source = next(other for other in names if other != name)
        _send(target, [Dead(name, incarnations[name], source, refused=True)])
    _nobody_moved(target, before, dropped)
    return "each objected, nothing moved"
