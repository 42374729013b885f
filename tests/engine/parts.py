"""The production parts of one node on a store, with small fakes for their surroundings."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import attrs
import trio

from orchy import engine
from orchy.actions import SYSTEM_ACTIONS
from orchy.actions.javascript.port import Evaluation, ScriptFailure
from orchy.actions.javascript.runner import ScriptRunner
from orchy.dispatch.dispatcher import Dispatcher
from orchy.engine.catalog import Catalog
from orchy.engine.limits import DEFAULT_LIMITS, EngineLimits
from orchy.engine.mover import Mover
from orchy.engine.orchestrator import Orchestrator, Result
from orchy.engine.start_commits import StartOutcome
from orchy.engine.starts import StartRequest, Starts
from orchy.flow.limits import DEFAULT_LIMITS as DEFAULT_FLOW_LIMITS
from orchy.flow.limits import Limits
from orchy.partition.holdings import Holdings
from orchy.partition.leases import LeaseKeeper
from orchy.partition.timers import TimerLoop
from orchy.ring import partition_of
from orchy.store.memory.store import MemoryStore
from orchy.views.queries import Queries

PARTITIONS = 4


class ScriptedEngine:
    """Answers `set NAME` with {NAME: 1} and `throw TEXT` with a failure, as if it were javascript."""

    def __init__(self) -> None:
        self.evaluated: list[str] = []

    async def evaluate(self, expression: str, context: Any, workflow: str = "") -> Evaluation | ScriptFailure:
        await trio.lowlevel.checkpoint()
        self.evaluated.append(expression)
        verb, _, word = expression.partition(" ")
        return Evaluation({word: 1}) if verb == "set" else ScriptFailure(word, "throw")


@attrs.define
class Observer:
    """Counts calls."""

    started: int = 0
    ended: list[str] = attrs.field(factory=list)
    results: list[str] = attrs.field(factory=list)

    def flow_started(self) -> None:
        self.started += 1

    def flow_ended(self, state: str) -> None:
        self.ended.append(str(state))

    def result_taken(self, verdict: str) -> None:
        self.results.append(str(verdict))


@attrs.define
class Wakeups:
    """Notifies the node's own loops."""

    dispatcher: Dispatcher | None = None
    timers: TimerLoop | None = None

    def enqueued(self, partition: int, action_names: Any) -> None:
        if self.dispatcher:
            self.dispatcher.ready(partition, action_names)

    def timer_set(self, partition: int, after_ms: int) -> None:
        if self.timers:
            self.timers.hint(partition, after_ms)


def encode(**action: Any) -> bytes:
    """Encodes an attempt as JSON instead of protobuf."""
    return json.dumps(action).encode()


@attrs.define
class Engine:
    """The parts of one node, on a store that other nodes may share."""

    store: MemoryStore
    core: engine.Engine
    queries: Queries
    holdings: Holdings
    keeper: LeaseKeeper
    timers: TimerLoop
    scripts: ScriptedEngine
    observer: Observer

    @property
    def catalog(self) -> Catalog:
        return self.core.catalog

    @property
    def dispatcher(self) -> Dispatcher:
        return self.core.dispatcher

    @property
    def mover(self) -> Mover:
        return self.core.mover

    @property
    def starts(self) -> Starts:
        return self.core.starts

    @property
    def orchestrator(self) -> Orchestrator:
        return self.core.orchestrator

    async def start(
        self, name: str, input: Any, version: int | None = None, flow_id: str | None = None
    ) -> StartOutcome:
        return await self.starts.start(StartRequest(name, input, version, flow_id))

    async def execute(self, name: str, input: Any, version: int | None = None, flow_id: str | None = None) -> str:
        return (await self.start(name, input, version, flow_id)).flow_id

    async def save(self, *actions: dict[str, Any], name: str = "w", **more: Any) -> None:
        for action in actions:
            if "next" in action and isinstance(action["next"], list):
                action["next"] = {"default": action["next"]}
        source = {"name": name, "rootAction": actions[0]["id"], "actions": list(actions), **more}
        await self.catalog.save_workflow(json.dumps(source).encode())

    async def poll(self, name: str, limit: int = 10, wait_seconds: float = 0) -> list[dict[str, Any]]:
        return [json.loads(body) for body in await self.dispatcher.poll(name, limit, wait_seconds, "tester")]

    async def finish(self, action: dict[str, Any], output: Any = None) -> Any:
        result = Result(action["flow_id"], action["action_id"], action["attempt"], output or {}, worker="tester")
        return await self.orchestrator.push(result)

    async def fail(self, action: dict[str, Any], error: str = "no") -> Any:
        return await self.orchestrator.push(
            Result(action["flow_id"], action["action_id"], action["attempt"], error=error)
        )

    async def types(self, flow_id: str) -> list[str]:
        return [line.type.name for line in await self.queries.history(flow_id)]


def make_engine(
    store: Any,
    node: str = "node",
    encode_action: Any = encode,
    limits: Limits = DEFAULT_FLOW_LIMITS,
    engine_limits: EngineLimits = DEFAULT_LIMITS,
) -> Engine:
    scripts, observer, holdings = ScriptedEngine(), Observer(), Holdings()
    place = partial(partition_of, partitions=PARTITIONS)
    wakeups = Wakeups()
    core = engine.open(
        store,
        engine.EngineSettings(retention_seconds=60, flow_limits=limits, limits=engine_limits),
        system_actions=SYSTEM_ACTIONS,
        runners={"javascript": ScriptRunner(scripts)},
        partition_of=place,
        encode_action=encode_action,
        wakeups=wakeups,
        observer=observer,
    )
    holdings.watch(core.dispatcher.own)
    timers = TimerLoop(store, holdings, core.orchestrator.fire, core.dispatcher.ready, lambda late_ms: None)
    wakeups.dispatcher, wakeups.timers = core.dispatcher, timers
    keeper = LeaseKeeper(store, node, holdings)
    keeper.want(range(PARTITIONS))
    queries = Queries(store, core.catalog, place, PARTITIONS)
    return Engine(store, core, queries, holdings, keeper, timers, scripts, observer)
