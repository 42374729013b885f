"""The clients of a run: they start flows at a fixed rate, whatever happens to them, and log what they see."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import trio

from tests.faults import shapes
from tests.faults.http import Rest

#: How long a client keeps trying; longer than any fault and the time to heal after it.
PATIENCE_SECONDS = 150.0


class Load:
    """An open loop: flows are started on schedule. The log has one JSON object a line."""

    def __init__(self, rest: Rest, log: Path, rng: random.Random, rate: float, weights: dict[str, int]) -> None:
        self._rest = rest
        self._log = log.open("a", buffering=1)
        self._rng = rng
        self._rate = rate
        self._shapes = [shape for shape, weight in weights.items() for _ in range(weight)]
        self._number = 0
        self.open_calls = 0

    def note(self, what: str, **details: Any) -> None:
        """Write a line of the log."""
        self._log.write(json.dumps({"at": time.time(), "what": what, **details}) + "\n")

    async def run(self, nursery: trio.Nursery) -> None:
        """Start flows until cancelled; `nursery` holds those under way, and outlives the cancellation."""
        next_at = trio.current_time()
        while True:
            next_at += self._rng.expovariate(self._rate)
            await trio.sleep_until(next_at)
            self._number += 1
            flow = f"f{self._number:06}-{self._rng.getrandbits(32):08x}"
            nursery.start_soon(self._drive, flow, self._rng.choice(self._shapes), self._rng.random())

    async def _drive(self, flow: str, shape: str, luck: float) -> None:
        self.open_calls += 1
        try:
            with trio.move_on_after(PATIENCE_SECONDS):
                await self._start(flow, shape)
                if shape == "wait":
                    await self._send_events(flow, luck)
                elif shape == "pause":
                    await self._pause(flow, luck)
        finally:
            self.open_calls -= 1

    async def _start(self, flow: str, shape: str) -> None:
        body = {"name": shape, "flowId": flow, "input": {"number": self._number}}
        about = {"flow": flow, "shape": shape}
        status, answer = await self._rest.ask(
            "POST", "/flow/execute", body, on_send=lambda: self.note("start", **about)
        )
        if status != 200 or answer["flowId"] != flow:
            raise RuntimeError(f"a start was answered {status} {answer}")
        self.note("accepted", **about)

    async def _send_events(self, flow: str, luck: float) -> None:
        """Two events, the second after the first was accepted; some arrive before their wait."""
        await trio.sleep(luck * 0.5)
        for number in (1, 2):
            body = {"name": "wait", "flowId": flow, "event": shapes.EVENT, "data": {"number": number}}
            about = {"flow": flow, "number": number}
            status, answer = await self._rest.ask(
                "POST", "/flow/event", body, on_send=lambda about=about: self.note("event", **about)
            )
            # The flow is over if an event that was sent twice counted twice, so that both waits got theirs.
            if status != 409:
                self.note("eventAccepted" if status == 200 else "eventRefused", **about, answer=answer)
            await trio.sleep(luck * 0.5)

    async def _pause(self, flow: str, luck: float) -> None:
        await trio.sleep(luck * 0.1)
        if await self._command(flow, "pause"):
            await trio.sleep(0.8)
            await self._command(flow, "resume")

    async def _command(self, flow: str, command: str) -> bool:
        """Pause or resume a flow; False: it was refused, as when the flow is over."""
        body = {"name": "pause", "flowId": flow}
        status, answer = await self._rest.ask(
            "POST", f"/flow/{command}", body, on_send=lambda: self.note(command, flow=flow)
        )
        if status != 409:
            self.note(f"{command}Accepted" if status == 200 else f"{command}Refused", flow=flow, answer=answer)
        return status == 200

    async def resume_again(self, flow: str) -> None:
        """Resume a flow once more: a repeated pause may have reached a second node after the resumption."""
        await self._command(flow, "resume")
