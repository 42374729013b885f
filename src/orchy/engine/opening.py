"""Wires the engine: the one place that connects store, catalog, mover and dispatcher."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from uuid import UUID, uuid4

import attrs

from orchy.actions.javascript.port import ScriptChecker
from orchy.actions.runner import Runner
from orchy.dispatch.dispatcher import Dispatcher
from orchy.engine.catalog import Catalog
from orchy.engine.commits import Commits
from orchy.engine.flow_cache import FlowCache
from orchy.engine.limits import DEFAULT_LIMITS, EngineLimits
from orchy.engine.mover import Mover
from orchy.engine.orchestrator import Orchestrator
from orchy.engine.ports import Observer, Wakeups
from orchy.engine.rule_book import RuleBook
from orchy.engine.start_commits import StartCommits
from orchy.engine.starts import Starts
from orchy.engine.stepping import Stepper
from orchy.engine.transition import EncodeAction
from orchy.flow.definition import DEFAULT_TIMEOUT_SECONDS
from orchy.flow.limits import DEFAULT_LIMITS as DEFAULT_FLOW_LIMITS
from orchy.flow.limits import Limits
from orchy.flow.system import SystemAction
from orchy.store.limits import BATCH_MAX, USUAL_LIMITS, DefinitionLimits
from orchy.store.ports import Store


@attrs.frozen
class EngineSettings:
    """What operators configure, and the engine's limits."""

    retention_seconds: float
    default_timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
    batch_size: int = BATCH_MAX
    flow_limits: Limits = DEFAULT_FLOW_LIMITS
    definition_limits: DefinitionLimits = USUAL_LIMITS
    limits: EngineLimits = DEFAULT_LIMITS


@attrs.frozen
class Engine:
    """The parts that run the flows of one node. None of them has a task of its own."""

    store: Store
    catalog: Catalog
    dispatcher: Dispatcher
    mover: Mover
    starts: Starts
    orchestrator: Orchestrator

    def forget(self) -> None:
        """Drop all caches, because the store may hold other data now."""
        self.mover.forget()
        self.catalog.forget()


def open(  # noqa: A001 - called as `engine.open(...)`
    store: Store,
    settings: EngineSettings,
    *,
    system_actions: Mapping[str, SystemAction],
    runners: Mapping[str, Runner],
    partition_of: Callable[[str], int],
    encode_action: EncodeAction,
    wakeups: Wakeups,
    observer: Observer,
    checker: ScriptChecker | None = None,
    new_uuid: Callable[[], UUID] = uuid4,
) -> Engine:
    """Open an engine over a store. The node, the simulation and the tests all use this.

    `runners` do deferred work, one for each kind that `system_actions` defer. `encode_action` encodes attempts for
    workers. `wakeups` is notified of new work and timers. `checker` parses scripts before they are saved; None: scripts
    are not checked.
    """
    limits = settings.limits
    dispatcher = Dispatcher(store, settings.batch_size)
    catalog = Catalog(store, system_actions, settings.definition_limits, checker, limits.remembered_names)
    cache = FlowCache(limits.cached_flows)
    rules = RuleBook(catalog, system_actions, settings.default_timeout_seconds, settings.flow_limits)
    stepper = Stepper(runners, limits)
    commits = Commits(
        store=store,
        cache=cache,
        encode_action=encode_action,
        partition_of=partition_of,
        wakeups=wakeups,
        hand_off=dispatcher,
        observer=observer,
        retain_ms=round(settings.retention_seconds * 1000),
        flow_bytes_max=settings.flow_limits.flow_bytes_max,
    )
    mover = Mover(
        store=store,
        cache=cache,
        catalog=catalog,
        rules=rules,
        stepper=stepper,
        commits=commits,
        partition_of=partition_of,
        batch_size=settings.batch_size,
    )
    start_commits = StartCommits(
        store=store, rules=rules, stepper=stepper, commits=commits, partition_of=partition_of, observer=observer
    )
    orchestrator = Orchestrator(
        store=store,
        catalog=catalog,
        rules=rules,
        mover=mover,
        partition_of=partition_of,
        wakeups=wakeups,
        observer=observer,
        new_uuid=new_uuid,
    )
    return Engine(store, catalog, dispatcher, mover, Starts(catalog, start_commits, new_uuid), orchestrator)
