"""Results on their way: each is pushed until some server takes it, or says that it never can."""

from __future__ import annotations

import logging
import random

import trio

from orchy.rpc.channel import Channel, ConnectionLost
from orchy.rpc.framing import Code, Status
from orchy.rpc.generated import action_service_pb2 as pb
from orchy.worker.action import fail
from orchy.worker.notices import Notice
from orchy.worker.servers import Servers

#: How long a server may take for a result before another one is asked: little at first, for one that has stopped
#: answering would hold up results until their attempts time out; more each time, for all may be slow.
PUSH_SECONDS = 1.0
PUSH_MAX_SECONDS = 10.0
AGAIN_MIN_SECONDS = 0.05
AGAIN_MAX_SECONDS = 2.0

log = logging.getLogger("orchy.worker")


class Results:
    """Pushes results; to another server at each try."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self._notice = Notice()

    async def push(self, result: pb.ActionResult) -> None:
        """Returns when the result is a server's, or nobody's. Callers bound it."""
        again_seconds = AGAIN_MIN_SECONDS
        answer_seconds = PUSH_SECONDS
        while True:
            for channel in await self._servers.some():
                if await self._push_once(channel, result, answer_seconds):
                    return
                answer_seconds = min(2 * answer_seconds, PUSH_MAX_SECONDS)
            await trio.sleep(random.uniform(again_seconds / 2, again_seconds))
            again_seconds = min(2 * again_seconds, AGAIN_MAX_SECONDS)

    async def _push_once(self, channel: Channel, result: pb.ActionResult, answer_seconds: float) -> bool:
        """Whether that is done with."""
        try:
            with trio.fail_after(answer_seconds):
                reply = await channel.call("ActionService/Push", result, pb.ActionResultPushResponse)
        except Status as status:
            if status.code not in (Code.INVALID_ARGUMENT, Code.RESOURCE_EXHAUSTED):
                self._notice.warn(f"results are not taken, they are pushed again: {status.message}")
            elif result.status == pb.ActionResult.SUCCESS:
                # Nobody will ever take it; the flow shall know why, and not wait for its time-out.
                fail(result, f"the server refused the result: {status.message}")
                return await self._push_once(channel, result, answer_seconds)
            else:
                log.error("the server refused a result of flow %s: %s", result.flowId, status.message)
                return True
        except (ConnectionLost, trio.TooSlowError) as error:
            self._notice.warn(f"a result is pushed again: {str(error) or 'the server did not answer'}")
        else:
            self._notice.clear("results are taken again")
            if not reply.status:
                log.warning("flow %s is not there any more: a result of it is dropped", result.flowId)
            return True
        return False
