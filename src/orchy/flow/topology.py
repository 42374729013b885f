"""Circles and reachability in a graph of ids. Without recursion: graphs may be thousands of nodes deep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def find_cycle(edges: Mapping[int, Sequence[int]]) -> list[int]:
    """The first circle that a depth-first search meets, in order, its first id again at the end; [] if there is none."""
    done: set[int] = set()
    for start in edges:
        if start in done:
            continue
        path = [start]
        on_path = {start}
        following = [iter(edges[start])]
        while path:
            target = next(following[-1], None)
            if target is None:
                following.pop()
                left = path.pop()
                on_path.discard(left)
                done.add(left)
            elif target in on_path:
                return [*path[path.index(target) :], target]
            elif target not in done:
                path.append(target)
                on_path.add(target)
                following.append(iter(edges[target]))
    return []


def unreachable(edges: Mapping[int, Sequence[int]], root: int) -> list[int]:
    """The ids to which no way leads from `root`, in the order of `edges`."""
    reached = {root}
    ahead = [root]
    while ahead:
        for target in edges[ahead.pop()]:
            if target not in reached:
                reached.add(target)
                ahead.append(target)
    return [id for id in edges if id not in reached]
