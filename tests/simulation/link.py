"""The connection from one node to the store, and all that can go wrong on it.

A call may take long, get lost, arrive after the caller has given it up, or be applied and its response lost. The caller
then sees what the Redis client would show it: a call that is safe to repeat is sent again, or raises StoreUnavailable;
any other raises OutcomeUnknown.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import trio

from orchy.errors import OrchyError, OutcomeUnknown, StoreUnavailable
from orchy.runtime.gather import gather
from orchy.store.memory.store import outcome_of
from tests.simulation.world import World

#: How long the client waits for an answer (`RedisSettings.command_timeout_seconds`).
ANSWER_SECONDS = 5.0
#: How long a call that was given up may still be in flight.
LATE_SECONDS_MAX = 12.0

#: Calls that are safe to send twice, as in the store on Redis.
SAFE = frozenset(
    {
        "load", "history", "scan", "extend", "renew_attempts", "last_hand_out",
        "cancel_timers", "list_flows", "expire", "acquire", "renew", "release",
        "owners", "settings", "save_workflow", "workflow", "latest_version", "workflows", "actions",
    }
)  # fmt: skip


class Link:
    """A store as one process sees it. The nemesis sets `cut`, `slow_seconds` and `trap`.

    `trap` is called once in the middle of the next call, "before" or "after" it is applied. `on_sound` is called with
    each call and its response, in a sound world only.
    """

    def __init__(self, world: World, node: str, store: Any) -> None:
        self._world = world
        self._rng = world.stream(f"link of {node}")
        self._store = store
        self._under_way: dict[trio.CancelScope, None] = {}
        self._dead = False
        self.cut = False
        self.slow_seconds = 0.0
        self.trap: tuple[str, Any] | None = None
        self.on_sound: Any = None

    def kill(self) -> None:
        """The process has died: what it has sent may still arrive, but it does nothing any more."""
        self._dead = True
        for scope in list(self._under_way):
            scope.cancel()

    async def commit_all(self, commits: Any) -> Any:
        """Each commit is a call of its own, with its own fate."""
        return await gather(partial(outcome_of, self.commit), commits)

    def __getattr__(self, verb: str) -> Any:
        async def call(*args: Any) -> Any:
            return await self._call(verb, args)

        call.__name__ = verb
        setattr(self, verb, call)
        return call

    async def _call(self, verb: str, args: tuple[Any, ...]) -> Any:
        self._world.count("store calls")
        sound = self._world.sound
        for _ in range(2 if verb in SAFE else 1):
            if self._dead:
                raise StoreUnavailable("this process is gone")
            if self.cut:
                await self._sleep(self._rng.choice((0.01, 0.1, 2.0)))
                raise StoreUnavailable("no connection to the store")
            answered, answer = await self._try(verb, args)
            if answered:
                if isinstance(answer, OrchyError):
                    raise answer
                if sound and self.on_sound is not None:
                    self.on_sound(verb, args, answer)
                return answer
            await self._sleep(self._rng.choice((0.0, 0.02, ANSWER_SECONDS)))
        if verb in SAFE:
            raise StoreUnavailable(f"the store did not answer {verb}")
        raise OutcomeUnknown(f"the answer to {verb} was lost")

    async def _try(self, verb: str, args: tuple[Any, ...]) -> tuple[bool, Any]:
        rng = self._rng
        lost = rng.random() < self._world.profile.answers_lost and not self._world.healed.is_set()
        fate = rng.choice(("not sent", "answer lost", "late")) if lost else "answered"
        there, back = self._delay(), self._delay()
        if self.trap is not None and self.trap[0] == "before":
            self._trigger_trap()
        if there:
            try:
                await self._sleep(there)
            except BaseException:  # the caller gave up, but the call may be in flight
                if rng.random() < 0.5:
                    self._deliver_late(verb, args)
                raise
        if self.cut and fate == "answered":
            fate = rng.choice(("not sent", "answer lost", "late"))
        if fate == "not sent":
            self._world.count("calls that did not arrive")
            return False, None
        if fate == "late" or there + back > ANSWER_SECONDS:
            self._deliver_late(verb, args)
            return False, None
        answer = await self._apply(verb, args)
        if self.trap is not None and verb in ("commit", "claim", "scan"):
            self._trigger_trap()
        if back:
            await self._sleep(back)
        if fate == "answer lost" or self.cut:
            self._world.count("answers lost")
            return False, None
        return True, answer

    async def _apply(self, verb: str, args: tuple[Any, ...]) -> Any:
        try:
            return await getattr(self._store, verb)(*args)
        except OrchyError as error:
            return error

    def _deliver_late(self, verb: str, args: tuple[Any, ...]) -> None:
        self._world.count("calls that arrived late")
        self._world.later(self._rng.uniform(0, LATE_SECONDS_MAX), self._apply, verb, args)

    def _trigger_trap(self) -> None:
        assert self.trap is not None
        (_, callback), self.trap = self.trap, None
        callback()
        if self._dead:
            raise StoreUnavailable("this process is gone")

    def _delay(self) -> float:
        longest = max(self.slow_seconds, self._world.profile.store_delay_seconds)
        if not longest or self._rng.random() < 0.5:
            return 0.0
        return longest * self._rng.random()

    async def _sleep(self, seconds: float) -> None:
        """Sleep. Raises StoreUnavailable if the process dies meanwhile."""
        with trio.CancelScope() as scope:
            self._under_way[scope] = None
            try:
                await trio.sleep(seconds)
            finally:
                del self._under_way[scope]
        if self._dead:
            raise StoreUnavailable("this process is gone")
