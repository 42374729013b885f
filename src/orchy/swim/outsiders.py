"""What is answered over a stream to one who is no member: where the store is, which cluster this is, or nothing."""

from __future__ import annotations

from orchy.swim.codec import Malformed, decode, encode, join
from orchy.swim.core import Core
from orchy.swim.envelope import Unopened
from orchy.swim.messages import AskStore, Refused, Request, Respond, StoreAt


def answer_outsider(core: Core, request: Request, reason: str) -> None:
    """No frame of a member. One that asks for the store is told; one that may be an operator's mistake is told which
    cluster this is, if it comes from this host or has this cluster's key; all else gets no answer.

    `reason` is what it is counted under.
    """
    introducer = core.introducer.envelope if core.introducer is not None else core.envelope
    if core.introducer is not None:
        try:
            match decode(introducer.open(request.data)):
                case [AskStore(nonce)]:
                    answer = introducer.seal(join([encode(StoreAt(nonce, core.introducer.store))]))
                    core.outputs.append(Respond(request.stream, answer))
                    return
        except (Unopened, Malformed):
            pass
    core.counts[f"dropped: {reason}"] += 1
    try:
        core.envelope.open_foreign(request.data)
        told = request.local or core.envelope.encrypts
    except Unopened as error:
        told = request.local and error.reason == "wrong key"
    if told:
        core.outputs.append(Respond(request.stream, introducer.seal(join([encode(Refused())]))))
