"""Cycles and reachability in a directed graph, without recursion. Pure; knows nothing of workflows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence


def cycles(edges: Mapping[int, Sequence[int]]) -> Iterator[list[int]]:
    """One cycle for each back edge, with its first node repeated at the end.

    A depth-first search in the order of `edges`: every cycle of the graph shares an edge with one that is found, so if
    none is found there is none. A target that is not a key of `edges` leads nowhere.
    """
    done: set[int] = set()
    for root in edges:
        if root in done:
            continue
        path: dict[int, None] = {root: None}  # keeps the order in which it was entered
        walks = [iter(edges[root])]
        while walks:
            target = next(walks[-1], None)
            if target is None:
                walks.pop()
                done.add(path.popitem()[0])
            elif target in path:
                nodes = list(path)
                yield [*nodes[nodes.index(target) :], target]
            elif target in edges and target not in done:
                path[target] = None
                walks.append(iter(edges[target]))


def reachable(edges: Mapping[int, Iterable[int]], root: int) -> set[int]:
    """All nodes that are reachable from `root`, including `root`."""
    reached = {root}
    left = [root]
    while left:
        for target in edges.get(left.pop(), ()):
            if target not in reached:
                reached.add(target)
                left.append(target)
    return reached
