"""A node: the production parts of a server, wired as in `orchy.server.node`, with entry points for simulated callers.

A node has several lives. A crash ends a life between two steps; nothing that its tasks do as they unwind reaches
anybody. A restart drains first, as SIGTERM does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

import attrs
import trio

from orchy import engine
from orchy.actions import SYSTEM_ACTIONS
from orchy.actions.javascript.port import Evaluation, ScriptFailure
from orchy.actions.javascript.runner import ScriptRunner
from orchy.cluster.cluster import Cluster
from orchy.dispatch.attempt_leases import AttemptLeases
from orchy.dispatch.dispatcher import Dispatcher
from orchy.dispatch.offers import Offers
from orchy.engine.limits import EngineLimits
from orchy.engine.lost_attempts import LostAttempts
from orchy.engine.orchestrator import Orchestrator
from orchy.errors import OrchyError, Overloaded
from orchy.partition.holdings import Holdings
from orchy.partition.leases import LeaseKeeper
from orchy.partition.limits import TimerLimits
from orchy.partition.retention import run_retention
from orchy.partition.timers import TimerLoop
from orchy.ring import owners, partition_of, successors
from orchy.rpc.api.convert import encode_action
from orchy.rpc.api.sessions import WorkSessions
from tests.simulation.books import script_result
from tests.simulation.determinism import uuids
from tests.simulation.freezing import Process
from tests.simulation.link import Link
from tests.simulation.membership import Gossip, SimulatedMembership
from tests.simulation.pipe import Pipe
from tests.simulation.world import World

#: Small, so that the limit is reached.
LIMITS = EngineLimits(deferred_per_commit=2, small_step_work=3, commit_work=1, cached_flows=4)
TIMER_LIMITS = TimerLimits(firing_max=5)
DRAIN_SECONDS = 1.0
#: Between the timeouts of the actions (1, 3 and 6 s).
LEASE_SECONDS = 2.0

_T = TypeVar("_T")


class NoAnswer(Exception):
    """A call was not answered: the node is down, or the connection broke. It may have been done."""


class Scripts:
    """Stands in for the JavaScript engine; it is slow or overloaded at random.

    `set NAME` returns {NAME: 1}, `copy NAME PATH` returns {NAME: the value of the path in the context}, and
    `throw TEXT` fails.
    """

    def __init__(self, world: World, node: str) -> None:
        self._world = world
        self._rng = world.stream(f"engine of {node}")

    async def evaluate(self, expression: str, context: Any, workflow: str = "") -> Evaluation | ScriptFailure:
        await trio.sleep(self._rng.choice((0.0, 0.0, 0.001, 0.4)))
        if not self._world.healed.is_set() and self._rng.random() < 0.05:
            raise Overloaded("no engine is free")
        if expression.startswith("throw "):
            return ScriptFailure(expression, "throw")
        return Evaluation(script_result(expression, context))


class Observer:
    """Ignores all counts."""

    def flow_started(self) -> None: ...

    def flow_ended(self, state: str) -> None: ...

    def result_taken(self, verdict: str) -> None: ...


@attrs.define(eq=False)
class Life:
    """The parts of a node from one start to its end."""

    process: Process
    link: Link
    membership: SimulatedMembership
    engine: engine.Engine
    cluster: Cluster
    keeper: LeaseKeeper
    timers: TimerLoop
    holdings: Holdings
    sessions: WorkSessions
    offers: Offers
    pipes: list[Pipe] = attrs.field(factory=list)
    nursery: trio.Nursery | None = None
    stopping: bool = False
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    ended: trio.Event = attrs.field(factory=trio.Event)

    @property
    def orchestrator(self) -> Orchestrator:
        """Entry point of workers and users."""
        return self.engine.orchestrator

    @property
    def dispatcher(self) -> Dispatcher:
        """Hands out work."""
        return self.engine.dispatcher


@attrs.define(eq=False)
class _Answer:
    came: trio.Event = attrs.field(factory=trio.Event)
    value: Any = None
    error: Exception | None = None
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)


class Node:
    """A name in the cluster, and its current life, if any."""

    def __init__(self, world: World, name: str, gossip: Gossip, store: Any) -> None:
        self.world = world
        self.name = name
        self.life: Life | None = None
        self.store_cut = False
        self.slow_seconds = 0.0
        self.on_sound: Any = None  # see Link
        self._gossip = gossip
        self._store = store
        self._uuids = uuids(world.stream(f"uuids of {name}"))

    # Its lives.

    def start(self, nursery: trio.Nursery) -> None:
        """Begin a life; the node must be down."""
        assert self.life is None
        self.life = self._wire()
        self.world.note(f"{self.name} starts")
        nursery.start_soon(self._live, self.life, name=self.name)

    def crash(self) -> None:
        """Kill the node, if it is up."""
        life = self.life
        if life is not None:
            self.world.note(f"{self.name} crashes")
            self._end(life, left=False)
            life.link.kill()
            life.scope.cancel()

    async def stop(self) -> None:
        """Hand over, drain and stop the node, if it is up; return when it is down."""
        life = self.life
        if life is not None:
            if not life.stopping:
                life.stopping = True
                self.world.note(f"{self.name} stops")
                while life.nursery is None and not life.ended.is_set():
                    await trio.sleep(0.001)  # it has just been started
                if life.nursery is not None:
                    life.nursery.start_soon(self._shut_down, life)  # a task of the node, which may be frozen or crash
            await life.ended.wait()

    async def _shut_down(self, life: Life) -> None:
        await life.cluster.hand_over()
        life.dispatcher.close()
        for pipe in list(life.pipes):
            pipe.end_request()
        await trio.sleep(DRAIN_SECONDS)
        if self.life is life:
            self._end(life, left=True)
            life.scope.cancel()

    def _end(self, life: Life, *, left: bool) -> None:
        self.life = None
        life.process.thaw()
        self._gossip.gone(self.name, left=left)

    def freeze(self, frozen: bool) -> None:
        """Freeze or thaw the node."""
        life = self.life
        if life is not None and life.process.frozen != frozen:
            self.world.note(f"{self.name} {'stands still' if frozen else 'goes on'}")
            self._gossip.frozen(self.name, frozen)
            if frozen:
                life.process.freeze()
            else:
                life.process.thaw()

    def cut_store(self, cut: bool) -> None:
        """Cut the connection to the store, or restore it."""
        self.store_cut = cut
        self.world.note(f"{self.name} {'loses' if cut else 'finds'} the store")
        if self.life is not None:
            self.life.link.cut = cut

    def slow_store(self, seconds: float) -> None:
        """Delay calls to the store by up to `seconds` each way."""
        self.slow_seconds = seconds
        self.world.note(f"{self.name}'s store takes up to {seconds} s")
        if self.life is not None:
            self.life.link.slow_seconds = seconds

    def _wire(self) -> Life:
        world, name = self.world, self.name
        profile = world.profile
        link = Link(world, name, self._store)
        link.cut, link.slow_seconds = self.store_cut, self.slow_seconds
        link.on_sound = self.on_sound
        store: Any = link
        holdings = Holdings()
        keeper = LeaseKeeper(store, name, holdings)
        membership = self._gossip.join(name)
        cluster = Cluster(
            node=name,
            partitions=profile.partitions,
            membership=membership,
            owners=owners,
            successors=successors,
            keeper=keeper,
            holdings=holdings,
            store=store,
        )
        place = partial(partition_of, partitions=profile.partitions)
        core = engine.open(
            store,
            engine.EngineSettings(
                retention_seconds=profile.retention_seconds, batch_size=profile.batch_size, limits=LIMITS
            ),
            system_actions=SYSTEM_ACTIONS,
            runners={"javascript": ScriptRunner(Scripts(world, name))},
            partition_of=place,
            encode_action=encode_action,
            wakeups=cluster,
            observer=Observer(),
            new_uuid=self._uuids,
        )
        orchestrator, dispatcher = core.orchestrator, core.dispatcher
        holdings.watch(dispatcher.own)
        leases = AttemptLeases(store, place)
        sessions = WorkSessions(orchestrator, dispatcher, leases, LEASE_SECONDS)
        lost = LostAttempts(orchestrator, store, sessions, round(LEASE_SECONDS * 1000))
        timers = TimerLoop(
            store, holdings, lost.fire, dispatcher.ready, _ignore, profile.batch_size, _steady_ms, TIMER_LIMITS
        )
        offers = Offers(dispatcher, cluster)
        cluster.on_offer = offers.receive
        cluster.on_enqueued = dispatcher.ready
        cluster.on_timer_set = timers.hint
        return Life(
            Process(name),
            link,
            membership,
            core,
            cluster,
            keeper,
            timers,
            holdings,
            sessions,
            offers,
        )

    async def _live(self, life: Life) -> None:
        life.process.adopt()
        await trio.lowlevel.checkpoint()  # the gate takes effect with the next step
        try:
            with life.scope:
                async with trio.open_nursery() as nursery:
                    await nursery.start(life.sessions.run)
                    life.nursery = nursery
                    nursery.start_soon(life.cluster.run)
                    nursery.start_soon(life.timers.run)
                    nursery.start_soon(life.offers.run)
                    nursery.start_soon(run_retention, life.link, life.holdings)
                    nursery.start_soon(life.keeper.run)
                    async for message in life.membership.inbox:
                        life.cluster.receive(message)
        finally:
            life.nursery = None
            life.link.kill()
            life.ended.set()

    # What callers use.

    async def call(self, operation: Callable[[Life], Awaitable[_T]], within_seconds: float) -> _T:
        """Run an operation on the node for a caller outside. Raises NoAnswer, and each OrchyError of the operation.

        When the time is over, the caller closes its connection, and the node cancels the operation.
        """
        life = self.life
        if life is None or life.nursery is None:
            await trio.sleep(0.01)
            raise NoAnswer
        answer = _Answer()
        life.nursery.start_soon(self._serve, life, operation, answer)
        with trio.move_on_after(within_seconds):
            await answer.came.wait()
        if not answer.came.is_set():
            answer.scope.cancel()
            raise NoAnswer
        if answer.error is not None:
            raise answer.error
        value: _T = answer.value
        return value

    async def _serve(self, life: Life, operation: Callable[[Life], Awaitable[Any]], answer: _Answer) -> None:
        answer.error = NoAnswer()
        broken = False
        try:
            with answer.scope:
                answer.value = await operation(life)
                answer.error = None
        except OrchyError as error:
            answer.error = error
        except Exception:  # a broken rule is the run's outcome, whatever the caller would make of it
            broken = True
            raise
        finally:
            if self.life is not life:  # a dead process sends nothing
                answer.error = NoAnswer()
            if not broken:
                answer.came.set()

    def open_stream(self) -> Pipe:
        """Open a worker's stream. Raises NoAnswer."""
        life = self.life
        if life is None or life.nursery is None or life.stopping:
            raise NoAnswer
        pipe = Pipe(partial(self._is_live, life))
        life.pipes.append(pipe)
        life.nursery.start_soon(pipe.carry, life.sessions)
        return pipe

    def _is_live(self, life: Life) -> bool:
        return self.life is life


def _steady_ms() -> float:
    return trio.current_time() * 1000


def _ignore(_: int) -> None:
    """The checker sees at the store how late a timer is."""
