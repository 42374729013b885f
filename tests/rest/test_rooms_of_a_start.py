"""How far a start travels: the top-level folders whose code runs between its request and its answer."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import trio

import orchy
from orchy.rest.app import create_app
from orchy.rest.services import Services
from orchy.store.memory.store import MemoryStore
from tests.engine.parts import make_engine
from tests.rest.asking import Counted, ask

SOURCE = str(Path(orchy.__file__).parent) + "/"
#: The ground that everybody stands on, and the pure function that places a flow.
GROUND = {"runtime", "ring", "telemetry", "errors"}
#: What the engine reaches through its ports, by the flow's first action: it is told of work, or of a timer that is set.
BEHIND_PORTS = {"user": {"dispatch"}, "delay": {"actions", "partition"}}


def room_of(frame):
    """The top-level folder of a frame's code; None outside of Orchy."""
    name = frame.f_code.co_filename
    return name.removeprefix(SOURCE).partition("/")[0] if name.startswith(SOURCE) else None


class Watch:
    """Notes which rooms are entered, and from which."""

    def __init__(self):
        self.entered = set()
        self.ways = set()

    def __call__(self, frame, event, argument):
        room = room_of(frame) if event == "call" else None
        if room is None:
            return
        self.entered.add(room)
        caller = frame.f_back
        while caller is not None and room_of(caller) is None:
            caller = caller.f_back
        if caller is not None and room_of(caller) != room:
            self.ways.add((room_of(caller), room))


@pytest.mark.parametrize("kind", BEHIND_PORTS)
@pytest.mark.parametrize("batch", [False, True])
async def test_a_start_enters_four_rooms(autojump_clock, kind, batch):
    engine = make_engine(MemoryStore(trio.current_time))
    first = {"type": "user", "name": "a"} if kind == "user" else {"type": "system", "name": "delay", "delaySeconds": 1}
    await engine.save({"id": 1, **first})
    app = create_app(Services(engine.starts, engine.orchestrator, engine.queries, engine.catalog, None, Counted()))
    start = {"name": "w", "input": {}}
    body = [start] * 3 if batch else start
    await ask(app, "POST", "/flow/execute", body)  # the workflow is compiled now
    watch = Watch()
    sys.setprofile(watch)
    try:
        status, _, _ = await ask(app, "POST", "/flow/execute", body)
    finally:
        sys.setprofile(None)
    assert status == 200
    assert watch.entered - GROUND - BEHIND_PORTS[kind] == {"rest", "engine", "flow", "store"}
    assert {room for caller, room in watch.ways if caller == "rest"} - GROUND <= {"engine", "flow"}
    assert {caller for caller, room in watch.ways if room == "store"} <= {"engine", "runtime"}
