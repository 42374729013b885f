"""This process in the store's list of nodes: others find it there, and no two live nodes have one name.

The gossip finds members by members. The list is for those that know none: after a split in which each half forgot the
other, and for nodes that were given no address of a cluster but have its store.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import NoReturn

import trio

from orchy.errors import StartupError, StoreError
from orchy.store.base import NodeStore, RegisteredNode
from orchy.unforeseen import Where, note, survive

LEASE_MS = 15_000
RENEW_SECONDS = 5.0
LOOK_AGAIN_SECONDS = 0.5
UNREGISTER_SECONDS = 1.0

log = logging.getLogger(__name__)


async def stay_registered(
    store: NodeStore,
    node: str,
    instance: str,
    address: str,
    on_nodes: Callable[[Sequence[RegisteredNode]], None],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> NoReturn:
    """Hold the name until cancelled; started when it is held. `on_nodes` gets the other nodes, again and again.

    Raises StartupError if another live process holds the name, StoreError if the first call fails.
    """
    on_nodes(await _take_name(store, node, instance, address))
    task_status.started()
    silent = False
    try:
        while True:
            await trio.sleep(RENEW_SECONDS)
            try:
                nodes = await store.register(node, instance, address, LEASE_MS)
            except StoreError as error:
                if not silent:
                    log.warning("can't say to the store that this node is there: %s", error)
                silent = True
                continue
            except Exception as error:
                note(Where.REGISTRY, f"the name {node}", error)
                continue
            silent = False
            rival = _holder(nodes, node, instance)
            if rival is not None:  # it was taken while this process was stopped, or cut from the store
                raise _taken(rival)
            with survive(Where.REGISTRY, "nodes that the store knows"):
                on_nodes([registered for registered in nodes if registered.node != node])
    finally:
        with trio.move_on_after(UNREGISTER_SECONDS, shield=True):
            try:
                await store.unregister(node, instance)
            except StoreError as error:
                log.debug("the store keeps this node's name for a while: %s", error)


async def _take_name(store: NodeStore, node: str, instance: str, address: str) -> list[RegisteredNode]:
    """The others. A name that a dead process holds is free when its time is over; one that is held on, is not."""
    remaining_ms: int | None = None
    while True:
        nodes = await store.register(node, instance, address, LEASE_MS)
        rival = _holder(nodes, node, instance)
        if rival is None:
            return [registered for registered in nodes if registered.node != node]
        if remaining_ms is None:
            log.warning(
                "the name %s was held by a node at %s up to %.0f s ago: waiting to see whether it lives",
                node,
                rival.address,
                (LEASE_MS - rival.remaining_ms) / 1000,
            )
        elif rival.remaining_ms > remaining_ms:
            raise _taken(rival)
        remaining_ms = rival.remaining_ms
        await trio.sleep(LOOK_AGAIN_SECONDS)


def _holder(nodes: Sequence[RegisteredNode], node: str, instance: str) -> RegisteredNode | None:
    return next(
        (registered for registered in nodes if registered.node == node and registered.instance != instance), None
    )


def _taken(rival: RegisteredNode) -> StartupError:
    return StartupError(
        f"there is a live node named {rival.node} already, at {rival.address}: give this one another --node-name"
    )
