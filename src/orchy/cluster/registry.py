"""This process in the store's list of nodes: the list says who belongs, and no two live nodes have one name.

The gossip says who is alive, but whoever can send a packet can say anything there. The store says who belongs: only a
process that holds its name in the list owns partitions, is told to workers, or makes another one give way. Others find
it there too: after a split in which each half forgot the other, and nodes that were given no address of a cluster.

A process is known by its instance, which is made of a random part and a digest of the addresses that it serves at: who
repeats it with another address is not that process.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import NoReturn

import attrs
import trio

from orchy.errors import StartupError, StoreError
from orchy.store.nodes import NodeStore, RegisteredNode
from orchy.telemetry.unexpected import Where, note, survive

LEASE_MS = 15_000
RENEW_SECONDS = 5.0
#: When somebody appears who is not in the list as it was read last, it is read again, at most so often.
READ_AGAIN_SECONDS = 0.5
#: A registration that is not in the list any more counts for so long: after an outage of the store, or a loss of its
#: data, each node writes its own again, within RENEW_SECONDS.
GRACE_SECONDS = 10.0
#: So many processes that were in the list once are remembered as such.
REMEMBERED_MAX = 4_096
LOOK_AGAIN_SECONDS = 0.5
UNREGISTER_SECONDS = 1.0
_RANDOM_BYTES, _DIGEST_BYTES = 8, 8

log = logging.getLogger(__name__)


def new_instance(*addresses: str) -> str:
    """What a process that serves at these addresses is known by."""
    return _instance(secrets.token_hex(_RANDOM_BYTES), addresses)


def is_instance_of(instance: str, *addresses: str) -> bool:
    """Whether it was made for just these addresses."""
    return instance == _instance(instance[: 2 * _RANDOM_BYTES], addresses)


def _instance(random_part: str, addresses: Sequence[str]) -> str:
    text = "\0".join([random_part, *addresses])
    return random_part + blake2b(text.encode(), digest_size=_DIGEST_BYTES).hexdigest()


@attrs.define
class _Registration:
    """A process that was in the list, and when it was last."""

    instance: str
    address: str
    read_at: float


class Registry:
    """The list of nodes, as this process read it last, and its own place there."""

    def __init__(self, store: NodeStore, node: str, instance: str, address: str) -> None:
        self._store = store
        self._node = node
        self._instance = instance
        self._address = address
        self._known: dict[str, _Registration] = {}
        self._read_at = 0.0
        self._wanted = trio.Event()
        #: The other nodes, as the list was read last.
        self.others: Sequence[RegisteredNode] = ()
        #: Called with them each time that it was read.
        self.on_read: Callable[[Sequence[RegisteredNode]], None] = lambda nodes: None

    # What others ask.

    def knows(self, node: str) -> bool:
        """Whether there was a process of this name in the list."""
        return node in self._known

    def vouches(self, node: str, instance: str, address: str) -> bool:
        """Whether this process is, or was, the last one in the list under this name."""
        known = self._known.get(node)
        return known is not None and (known.instance, known.address) == (instance, address)

    def registered(self, node: str, instance: str, address: str) -> bool:
        """Whether it belongs now: it is in the list as it was read last, or was until shortly before that."""
        known = self._known.get(node)
        if known is None or (known.instance, known.address) != (instance, address):
            return False
        return node == self._node or self._read_at - known.read_at <= GRACE_SECONDS

    def read_soon(self) -> None:
        """Somebody is there who is not in the list: it may have changed."""
        self._wanted.set()

    # What it does.

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> NoReturn:
        """Hold the name until cancelled; started when it is held.

        Raises StartupError if another live process holds the name, StoreError if the first call fails.
        """
        try:
            await self._take_name()
            task_status.started()
            await self._hold()
        finally:
            with trio.move_on_after(UNREGISTER_SECONDS, shield=True):
                try:
                    await self._store.unregister(self._node, self._instance)
                except StoreError as error:
                    log.debug("the store keeps this node's name for a while: %s", error)

    async def _hold(self) -> NoReturn:
        silent = False
        while True:
            await trio.sleep(READ_AGAIN_SECONDS)
            with trio.move_on_after(RENEW_SECONDS - READ_AGAIN_SECONDS):
                await self._wanted.wait()
            self._wanted = trio.Event()
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
            if rival is not None:  # it was taken while this process was stopped, or cut from the store
                raise _taken(rival)
            with survive(Where.REGISTRY, "nodes that the store knows"):
                self._take_in(nodes)

    async def _take_name(self) -> None:
        """A name that a dead process holds is free when its time is over; one that is held on, is not."""
        remaining_ms: int | None = None
        while True:
            nodes = await self._register()
            rival = self._rival(nodes)
            if rival is None:
                self._take_in(nodes)
                return
            if remaining_ms is None:
                log.warning(
                    "the name %s was held by a node at %s up to %.0f s ago: waiting to see whether it lives",
                    self._node,
                    rival.address,
                    (LEASE_MS - rival.remaining_ms) / 1000,
                )
            elif rival.remaining_ms > remaining_ms:
                raise _taken(rival)
            remaining_ms = rival.remaining_ms
            await trio.sleep(LOOK_AGAIN_SECONDS)

    async def _register(self) -> list[RegisteredNode]:
        return await self._store.register(self._node, self._instance, self._address, LEASE_MS)

    def _take_in(self, nodes: Sequence[RegisteredNode]) -> None:
        self._read_at = trio.current_time()
        for registered in nodes:
            self._known.pop(registered.node, None)  # so that the dict is in the order of the last reading
            self._known[registered.node] = _Registration(registered.instance, registered.address, self._read_at)
        while len(self._known) > max(REMEMBERED_MAX, len(nodes)):
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
