"""Answers over a stream to a process that is no member: where the store is, which cluster this is, or nothing."""

from __future__ import annotations

from orchy.swim.codec import Malformed, decode, encode, join
from orchy.swim.core import Core
from orchy.swim.envelope import Unopened
from orchy.swim.messages import AskStore, Refused, Request, Respond, StoreAt


def answer_outsider(core: Core, request: Request, reason: str) -> None:
    """Answer a frame that no member sealed.

    A question for the store is answered. A peer that is on this host or has this cluster's key may be an operator's
    mistake, and learns which cluster this is. All else gets no answer. What is no
    question for the store is counted under `reason`.
    """
    envelope = core.introducer.envelope if core.introducer is not None else core.envelope
    if core.introducer is not None:
        try:
            match decode(envelope.open(request.data)):
                case [AskStore(nonce)]:
                    answer = envelope.seal(join([encode(StoreAt(nonce, core.introducer.store))]))
                    core.outputs.append(Respond(request.stream, answer))
                    return
        except (Unopened, Malformed):
            pass
    core.counts[f"dropped: {reason}"] += 1
    try:
        core.envelope.open_foreign(request.data)
        names_cluster = request.local or core.envelope.encrypts
    except Unopened as error:
        names_cluster = request.local and error.reason == "wrong key"
    if names_cluster:
        core.outputs.append(Respond(request.stream, envelope.seal(join([encode(Refused())]))))
