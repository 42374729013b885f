"""The store's list of nodes: it says which processes belong to the cluster, and gives each name to only one of them.

The gossip says who is alive, but anybody who can send a packet can say anything there. So only a process that holds its
name in this list owns partitions, is shown to workers, or makes another process give way. Nodes also find each other by
this list: after a split in which each half forgot the other, and when they were given no address of a cluster.

A process is identified by its instance: a random part and a digest of the addresses at which it serves, so that nobody
can use it with other addresses.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import NoReturn

import attrs
import trio

from orchy.cluster.timing import REGISTRY_TIMING, RegistryTiming
from orchy.errors import StartupError, StoreError
from orchy.runtime.callbacks import ignore
from orchy.store.nodes import NodeStore, RegisteredNode
from orchy.telemetry.unexpected import Where, note, survive

_RANDOM_BYTES, _DIGEST_BYTES = 8, 8

log = logging.getLogger(__name__)


def new_instance(*addresses: str) -> str:
    """Identifies a new process that serves at these addresses."""
    return _instance(secrets.token_hex(_RANDOM_BYTES), addresses)


def is_instance_of(instance: str, *addresses: str) -> bool:
    """Whether an instance was made for these addresses."""
    return instance == _instance(instance[: 2 * _RANDOM_BYTES], addresses)


def _instance(random_part: str, addresses: Sequence[str]) -> str:
    text = "\0".join([random_part, *addresses])
    return random_part + blake2b(text.encode(), digest_size=_DIGEST_BYTES).hexdigest()


@attrs.define
class _Registration:
    """A process that is or was in the list, and when it was last read there."""

    instance: str
    address: str
    read_at: float


class Registry:
    """The list of nodes as this process has last read it, and its own registration there."""

    def __init__(
        self,
        store: NodeStore,
        node: str,
        instance: str,
        address: str,
        timing: RegistryTiming = REGISTRY_TIMING,
    ) -> None:
        self._store = store
        self._node = node
        self._instance = instance
        self._address = address
        self._timing = timing
        self._known: dict[str, _Registration] = {}
        self._read_at = 0.0
        self._read_wanted = trio.Event()
        #: The other nodes when the list was last read.
        self.others: Sequence[RegisteredNode] = ()
        #: Called with them whenever the list was read.
        self.on_read: Callable[[Sequence[RegisteredNode]], None] = ignore

    # Questions.

    def knows(self, node: str) -> bool:
        """Whether a process of this name is or was in the list."""
        return node in self._known

    def vouches(self, node: str, instance: str, address: str) -> bool:
        """Whether this process is the last one that was in the list under this name."""
        known = self._known.get(node)
        return known is not None and (known.instance, known.address) == (instance, address)

    def registered(self, node: str, instance: str, address: str) -> bool:
        """Whether this process belongs to the cluster: it is in the list, or was until a moment ago."""
        known = self._known.get(node)
        if known is None or (known.instance, known.address) != (instance, address):
            return False
        return node == self._node or self._read_at - known.read_at <= self._timing.grace_seconds

    def read_soon(self) -> None:
        """Read the list again soon, as a node has appeared that is not in it."""
        self._read_wanted.set()

    # The loop.

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> NoReturn:
        """Hold the name until cancelled; started when it is held.

        Raises StartupError if another live process holds the name, StoreError if the first call fails.
        """
        try:
            await self._take_name()
            task_status.started()
            await self._hold()
        finally:
            with trio.move_on_after(self._timing.unregister_seconds, shield=True):
                try:
                    await self._store.unregister(self._node, self._instance)
                except StoreError as error:
                    log.debug("the store keeps this node's name for a while: %s", error)

    async def _hold(self) -> NoReturn:
        silent = False
        while True:
            await trio.sleep(self._timing.read_again_seconds)
            with trio.move_on_after(self._timing.renew_seconds - self._timing.read_again_seconds):
                await self._read_wanted.wait()
            self._read_wanted = trio.Event()
            try:
                nodes = await self._register()
            except StoreError as error:
                if not silent:
                    log.warning("can't say to the store that this node is there: %s", error)
                silent = True
                continue
            except Exception as error:
                note(Where.REGISTRY, f"the name {self._node}", error)
                continue
            silent = False
            rival = self._rival(nodes)
            if rival is not None:  # it took the name while this process stood still, or was cut off from the store
                raise _taken(rival)
            with survive(Where.REGISTRY, "nodes that the store knows"):
                self._remember(nodes)

    async def _take_name(self) -> None:
        """Take the name, or wait for the lease of a dead process to expire. Raises StartupError if it is renewed."""
        remaining_ms: int | None = None
        while True:
            nodes = await self._register()
            rival = self._rival(nodes)
            if rival is None:
                self._remember(nodes)
                return
            if remaining_ms is None:
                log.warning(
                    "the name %s was held by a node at %s up to %.0f s ago: waiting to see whether it lives",
                    self._node,
                    rival.address,
                    (self._timing.lease_ms - rival.remaining_ms) / 1000,
                )
            elif rival.remaining_ms > remaining_ms:
                raise _taken(rival)
            remaining_ms = rival.remaining_ms
            await trio.sleep(self._timing.retry_seconds)

    async def _register(self) -> list[RegisteredNode]:
        return await self._store.register(self._node, self._instance, self._address, self._timing.lease_ms)

    def _remember(self, nodes: Sequence[RegisteredNode]) -> None:
        self._read_at = trio.current_time()
        for registered in nodes:
            self._known.pop(registered.node, None)  # keeps the dict ordered by the time of reading
            self._known[registered.node] = _Registration(registered.instance, registered.address, self._read_at)
        while len(self._known) > max(self._timing.remembered_max, len(nodes)):
            del self._known[next(iter(self._known))]
        self.others = [registered for registered in nodes if registered.node != self._node]
        self.on_read(self.others)

    def _rival(self, nodes: Sequence[RegisteredNode]) -> RegisteredNode | None:
        return next(
            (
                registered
                for registered in nodes
                if registered.node == self._node and registered.instance != self._instance
            ),
            None,
        )


def _taken(rival: RegisteredNode) -> StartupError:
    return StartupError(
        f"there is a live node named {rival.node} already, at {rival.address}: give this one another --node-name"
    )
