"""One seed, from the start of the first node to the check that nothing is left."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import attrs
import trio
import trio.testing

from orchy.actions import SYSTEM_ACTIONS
from orchy.engine.catalog import Catalog
from orchy.runtime.nurseries import first_error
from orchy.store.memory.store import MemoryStore
from orchy.telemetry import unexpected
from tests.simulation import lastmoment
from tests.simulation.arbiter import Arbiter
from tests.simulation.books import Violation, require, violations
from tests.simulation.callers import Client, Cluster, Worker
from tests.simulation.crowds import IMPATIENT_FLOWS, Batch, Crowd, Impatient, draw_batches
from tests.simulation.cutting import Cutting
from tests.simulation.determinism import determined, stream
from tests.simulation.freezing import ProcessInheritance, current_process, end_all
from tests.simulation.invariants import Checker
from tests.simulation.lastmoment import LastMoment
from tests.simulation.membership import Gossip
from tests.simulation.nemesis import Nemesis
from tests.simulation.node import Node
from tests.simulation.plan import Plan
from tests.simulation.profile import Profile
from tests.simulation.streamers import StreamWorker
from tests.simulation.workload import ACTION_NAMES, draw_definitions, draw_stages, draw_workflow
from tests.simulation.world import World

#: Virtual seconds within which all flows end, once the world is healed.
END_SECONDS = 150.0
#: After that, until each partition has the holder that the ring wants: an adopted one is kept for 30 s.
SETTLE_SECONDS = 40.0
#: The limit of a whole run, so that a deadlock ends too.
RUN_SECONDS_MAX = 1_000.0
#: Rounds of Trio's loop during which virtual time does not advance.
ROUNDS_PER_MOMENT_MAX = 20_000
#: The workflow of flows that crowds send events to.
STAGES = "stages"
#: After all callers have gone, until nodes have released what they held for them.
LEAVE_SECONDS = 5.0
#: Small, so that claims reach it: two or three attempts. See also `node.LIMITS`.
CLAIM_BYTES_MAX = 400


@attrs.frozen
class Outcome:
    """The outcome of a seed. `broken` is None, or the rule that was broken with details."""

    seed: int
    broken: str | None
    digest: str
    counts: Counter[str]
    virtual_seconds: float
    transcript: tuple[str, ...] = ()


def run_seed(
    seed: int, *, keep: int = 60, faults: Sequence[str] | None = None, keep_always: bool = False, removals: bool = False
) -> Outcome:
    """Run one seed; `keep` is how many of the last lines of the transcript a failure carries.

    With `keep_always` a good run has them too. `faults` narrows the kinds of faults down, to find out which of
    them matter. With `removals` flows are removed as they end, in any case; else in a fifth of the seeds.
    """
    profile = Profile.draw(stream(seed, "profile"))
    if removals:
        profile = attrs.evolve(profile, removals=True)
    if faults is not None:
        profile = attrs.evolve(profile, faults=tuple(faults))
    worlds: list[World] = []
    ended_at = [0.0]

    async def main() -> None:
        async with trio.open_nursery() as background:
            world = World(seed, profile, background)
            worlds.append(world)
            world.later(RUN_SECONDS_MAX, _overrun)
            with _logged(world):
                try:
                    await _run(world)
                finally:
                    ended_at[0] = trio.current_time()
            background.cancel_scope.cancel()

    unexpected_errors: list[BaseException] = []  # a node survives them, but they are mistakes
    unexpected.watchers.append(unexpected_errors.append)
    broken = None
    violations.clear()
    end_all(None)
    try:
        with determined(seed):
            clock = trio.testing.MockClock(autojump_threshold=0)
            trio.run(main, clock=clock, instruments=[ProcessInheritance(), _StallDetector(clock)])
        for first in (*violations, *unexpected_errors):
            raise first
    except BaseException as error:
        error = next(iter((*violations, *unexpected_errors)), error)
        cause = first_error(error) if isinstance(error, BaseExceptionGroup) else error
        if not isinstance(cause, Exception):
            raise
        broken = str(cause) if isinstance(cause, Violation) else f"{type(cause).__name__}: {cause}"
        if not isinstance(cause, Violation):
            logging.getLogger("simulation").warning("seed %d", seed, exc_info=cause)
    finally:
        unexpected.watchers.remove(unexpected_errors.append)
    (world,) = worlds
    transcript = tuple(world.transcript[-keep:]) if keep and (broken or keep_always) else ()
    return Outcome(seed, broken, world.digest(), world.counts, ended_at[0], transcript)


async def _overrun() -> None:
    raise Violation("a run comes to its end", f"not within {RUN_SECONDS_MAX} virtual seconds")


async def _run(world: World) -> None:
    rng = world.stream("workload")
    profile = world.profile
    world.note(f"seed {world.seed}: {profile}")
    store = MemoryStore(trio.current_time, CLAIM_BYTES_MAX)
    checker = Checker(world, store)
    arbiter = Arbiter(world, store, checker)
    catalog = Catalog(store, SYSTEM_ACTIONS)
    definitions = draw_definitions(rng)
    checker.definitions = {definition.name: definition for definition in definitions}
    for definition in definitions:
        await catalog.save_action(definition)
    on_end = "DELETE" if profile.removals else "NOOP"
    names = [f"wf{number}" for number in range(profile.workflows)]
    for name in (*names, STAGES):
        document = draw_stages(name, on_end) if name == STAGES else draw_workflow(rng, name, on_end)
        await catalog.save_workflow(json.dumps(document).encode())
        checker.plans[name] = Plan(document)
    gossip = Gossip(world)
    nodes = [Node(world, f"n{number}", gossip, arbiter) for number in range(profile.nodes)]
    for node in nodes:
        node.on_sound = partial(_note_sound, checker)
    cluster = Cluster(world, nodes, checker)
    async with trio.open_nursery() as nursery:
        for node in nodes:
            node.start(nursery)
        nursery.start_soon(gossip.follow)
        async with trio.open_nursery() as workers:
            for number in range(profile.workers):
                workers.start_soon(Worker(cluster, number, workers).run)
            for number in range(profile.stream_workers):
                workers.start_soon(StreamWorker(cluster, profile.workers + number, workers).run)
            clients = [Client(cluster, number, rng.choice(names)) for number in range(profile.flows)]
            crowded = [Client(cluster, profile.flows + number, STAGES) for number in range(profile.bursts)]
            batches = draw_batches(rng, profile, clients)
            async with trio.open_nursery() as users:
                for number, batch in enumerate(batches):
                    users.start_soon(Batch(cluster, number, batch).run if len(batch) > 1 else batch[0].run)
                for number, client in enumerate(crowded):
                    users.start_soon(client.run)
                    users.start_soon(Crowd(cluster, number, client).run)
                clients += crowded
                await Nemesis(world, nodes, gossip, nursery).run()
                users.start_soon(_end, world, checker, clients, users.cancel_scope)
            await trio.sleep(SETTLE_SECONDS)
            _check_settled(world, checker, nodes)
            workers.cancel_scope.cancel()
        await _check_idle(nodes)
        await _play_last(cluster, catalog, len(clients))
        await _check_idle(nodes)
        await _drain(arbiter, profile.partitions)
        checker.each(checker.check_complete)
        checker.check_nothing_left()
        for node in nodes:
            stopped_at = trio.current_time()
            await node.stop()
            held = checker.holders.held_since_before(node.name, stopped_at)
            require(not held, "a node that stops gives up its leases", f"{node.name}: {held}")
        nursery.cancel_scope.cancel()
    world.counts["flows"] += len(checker.books)
    for book in checker.books.values():
        world.counts[f"flows {book.state}"] += 1


async def _play_last(cluster: Cluster, catalog: Catalog, flows: int) -> None:
    """Scenes for what is rare in the rest of a seed; `flows` is the number of flows so far."""
    await Impatient(cluster, flows, STAGES).run()
    flows += IMPATIENT_FLOWS
    await LastMoment(cluster, flows).run(catalog)
    await Cutting(cluster, flows + lastmoment.FLOWS).run(catalog)


def _note_sound(checker: Checker, verb: str, args: Sequence[Any], answer: Any) -> None:
    """Note what the store handed out to streams; polls are left out, they may date from before the healing."""
    if verb == "claim" and args[3].startswith("s"):
        checker.handed_out_in_sound_world(answer.bodies)
    elif verb == "commit":
        checker.handed_out_in_sound_world(entry.body for entry in args[0].enqueue if entry.worker is not None)


async def _end(world: World, checker: Checker, clients: Sequence[Client], users: trio.CancelScope) -> None:
    """Wait until all flows are over. Raises Violation with those that are not."""
    with trio.move_on_after(END_SECONDS):
        while not all(client.started for client in clients) or checker.open_flows():
            await trio.sleep(0.5)
        world.note("all flows are over")
        users.cancel()
        return
    require(all(client.started for client in clients), "every flow is accepted in the end")
    stuck = [f"{book.id} {book.flow.state} {book.flow.running}" for book in checker.open_flows() if book.flow]
    require(not stuck, "every accepted flow ends", "; ".join(stuck))


def _check_settled(world: World, checker: Checker, nodes: Sequence[Node]) -> None:
    """Each partition has one holder, and the nodes know which partitions they hold."""
    believed = {}
    for node in nodes:
        assert node.life is not None
        for partition in node.life.holdings.leases:
            require(partition not in believed, "a healed cluster has one holder for each partition", partition)
            believed[partition] = node.name
        require(node.life.keeper.complete, "a healed node holds what it wants", node.name)
    require(believed == checker.holders.now(), "nodes know what they hold", f"{believed}, {checker.holders.now()}")
    require(len(believed) == world.profile.partitions, "each partition has a holder", believed)


async def _check_idle(nodes: Sequence[Node]) -> None:
    """Once no caller is left, nodes hold nothing for callers."""
    await trio.sleep(LEAVE_SECONDS)
    for node in nodes:
        life = node.life
        assert life is not None
        left = {
            "mailboxes": len(life.engine.mover._mailboxes),
            "timers that are handled": life.timers.firing,
            "polls that wait": life.dispatcher.waiting,
            "places that are kept": life.dispatcher.reserved,
            "streams": life.sessions.open,
        }
        require(not any(left.values()), "a node of which nobody wants anything holds nothing", f"{node.name}: {left}")


async def _drain(arbiter: Arbiter, partitions: int) -> None:
    """Claim from all queues, so that stale entries are dropped."""
    for action in ACTION_NAMES:
        claimed = await arbiter.claim(action, range(partitions), 100, "drain")
        require(not claimed.bodies, "nothing is left to be handed out", claimed.bodies)


class _StallDetector(trio.abc.Instrument):
    """Ends a run in which tasks spin while virtual time stands still.

    The clock then jumps to the limit of a run; tasks that still spin, behind a shield, are ended by force.
    """

    def __init__(self, clock: trio.testing.MockClock) -> None:
        self._clock = clock
        self._at = -1.0
        self._rounds = 0
        self._jumped = False

    def before_io_wait(self, timeout: float) -> None:
        """Called by Trio between two rounds of steps."""
        now = self._clock.current_time()
        self._rounds = self._rounds + 1 if now == self._at else 0
        self._at = now
        if self._rounds == ROUNDS_PER_MOMENT_MAX:
            self._clock.jump(RUN_SECONDS_MAX)
            self._jumped = True
            self._rounds = 0
        elif self._jumped and self._rounds == ROUNDS_PER_MOMENT_MAX // 2:
            end_all(Violation("a run comes to its end", "a task spins and lets nobody end it"))


class _TranscriptHandler(logging.Handler):
    """Puts the log lines of production code into the transcript."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.INFO)
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1]:  # a server survives a bug in one stream, but a run must not
            raise record.exc_info[1]
        self._world.note(f"{current_process()} says: {record.getMessage()}")


@contextmanager
def _logged(world: World) -> Iterator[None]:
    log = logging.getLogger("orchy")
    before, handler = (log.level, log.propagate), _TranscriptHandler(world)
    log.setLevel(logging.INFO)
    log.propagate = False
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before[0])
        log.propagate = before[1]
