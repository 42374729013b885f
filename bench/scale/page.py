"""The figures of docs/scale.md, computed from bench/results.json.

By `python -m bench.scale.page`, and at the end of each run. What stands between the two marks of the page is replaced
when all of the benchmarks that it needs have been run.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from bench.harness.places import DOCS, RESULTS
from bench.harness.results import value

PAGE = DOCS / "scale.md"
BEGIN, END = "<!-- computed by bench/scale/page.py: begin -->\n", "<!-- end -->\n"
#: The share of a core that may be in use before queueing grows faster than throughput.
USABLE_SHARE = 0.7
SHAPES = ((1, 1), (1, 2), (1, 3), (1, 6), (3, 6), (3, 12), (6, 24), (12, 48))
RETENTIONS = (("1 hour", 3_600), ("1 day", 86_400), ("7 days (default)", 604_800))
MEMORIES_GB = (16, 64, 256)
MANY_NODES = 1_000
#: Above this share of a core, the page mentions that the machine was busy.
OTHERS_CORES = 0.1
BURST, NODES, MASTERS = "burst 10,000, batch starts", "partitions", "redis-cluster"

Benchmarks = Mapping[str, Any]


@attrs.frozen
class Costs:
    """CPU of one flow of *three*, in us, with one node.

    The `foreign` figures are the surcharge for a flow whose partition belongs to another node than the one it was
    started on: its work passes through a queue, after a wake-up.
    """

    node_us: float
    foreign_node_us: float
    redis_us: float
    foreign_redis_us: float
    worker_us: float
    finished_bytes: float

    @classmethod
    def measured(cls, benchmarks: Benchmarks) -> Costs:
        """Computed from the results. Raises KeyError when a figure is missing."""

        def foreign(what: str) -> float:
            """With two nodes, half of the flows belong to the other one."""
            one, two = (value(benchmarks, NODES, f"  {count} nodes: CPU of {what}") for count in (1, 2))
            return max(0.0, 2 * (two - one))

        return cls(
            value(benchmarks, NODES, "  1 nodes: CPU of all nodes"),
            foreign("all nodes"),
            value(benchmarks, NODES, "  1 nodes: CPU of Redis"),
            foreign("Redis"),
            value(benchmarks, NODES, "  1 nodes: CPU of the workers"),
            value(benchmarks, "memory", "Redis memory of a finished three") * 1e3,
        )

    def nodes_us(self, nodes: int) -> float:
        """CPU of all nodes for one flow, if starts go to random nodes."""
        return self.node_us + self.foreign_node_us * (nodes - 1) / nodes

    def all_redis_us(self, nodes: int) -> float:
        """CPU of all masters for one flow."""
        return self.redis_us + self.foreign_redis_us * (nodes - 1) / nodes

    def nodes_carry(self, nodes: int) -> float:
        """Flows a second that `nodes` can do, with a core for each."""
        return nodes * USABLE_SHARE * 1e6 / self.nodes_us(nodes)

    def masters_carry(self, masters: int, nodes: int) -> float:
        """Flows a second that `masters` can do, with a core for each."""
        return masters * USABLE_SHARE * 1e6 / self.all_redis_us(nodes)


def text(benchmarks: Benchmarks) -> str:
    """All tables. Raises KeyError when a figure is missing."""
    costs = Costs.measured(benchmarks)
    parts = [_costs(benchmarks, costs), _carries(costs), _memory(costs), _check(benchmarks, costs)]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def write(benchmarks: Benchmarks) -> Path | None:
    """Put the tables into the page, if all their figures are there."""
    try:
        tables = text(benchmarks)
    except KeyError:
        return None
    head, begin, rest = PAGE.read_text().partition(BEGIN)
    _, end, tail = rest.partition(END)
    assert begin, "the page has lost its marks"
    assert end, "the page has lost its marks"
    PAGE.write_text(head + BEGIN + "\n" + tables + "\n" + END + tail)
    return PAGE


def _costs(benchmarks: Benchmarks, costs: Costs) -> Iterator[str]:
    yield f"What a flow of *three* costs (`appendfsync {benchmarks[NODES]['appendfsync']}`):\n"
    yield from _table(("what", "symbol", "figure", "line of `nox -s bench`"))
    whats = ("Redis calls", "bytes into", "bytes out")
    calls, into, out = (value(benchmarks, "burst", f"{BURST}: {what}") for what in whats)
    more = "2 x (that of 2 nodes - that of 1)"
    rows = (
        ("CPU of the node, one node", "`N`", f"{costs.node_us:.0f} us", "partitions: 1 nodes: CPU of all nodes"),
        ("CPU of all nodes, more for a flow of another", "`X`", f"{costs.foreign_node_us:.0f} us", more),
        ("CPU of Redis, one node", "`R`", f"{costs.redis_us:.0f} us", "partitions: 1 nodes: CPU of Redis"),
        ("CPU of Redis, more for a flow of another", "`Y`", f"{costs.foreign_redis_us:.0f} us", more),
        ("CPU of the worker", "`W`", f"{costs.worker_us:.0f} us", "partitions: 1 nodes: CPU of the workers"),
        ("Redis calls", "", f"{calls:.2f}", f"{BURST}: Redis calls"),
        ("bytes into Redis, out of it", "", f"{into:,.0f}, {out:,.0f}", f"{BURST}: bytes into, out of Redis"),
        ("Redis memory, finished", "`m`", f"{costs.finished_bytes:,.0f} bytes", "memory: a finished three"),
    )
    for row in rows:
        yield _row(row)
    alone = value(benchmarks, "redis-limit", "  handed out by the commits: with a whole core")
    yield f"\nThe same scripts from a client that does nothing else (redis-limit): {alone:,.0f} flows/s a core,"
    yield f"that is {1e6 / alone:.0f} us a flow. In a real burst Redis shares the caches with all else."
    others = max(benchmarks[name].get("others_cores", 0.0) for name in ("burst", NODES, MASTERS, "redis-limit"))
    if others > OTHERS_CORES:
        yield f"\nWhile this was measured others kept up to {others:.1f} cores busy, so all costs are too high."


def _carries(costs: Costs) -> Iterator[str]:
    yield f"What *k* masters and *n* nodes carry, a core for each and {USABLE_SHARE:.0%} of it in use:\n"
    yield from _table(("masters", "nodes", "nodes carry", "Redis carries", "flows/s", "the wall is", "worker cores"))
    for masters, nodes in SHAPES:
        by_nodes, by_masters = costs.nodes_carry(nodes), costs.masters_carry(masters, nodes)
        rate = min(by_nodes, by_masters)
        wall = "the nodes" if by_nodes <= by_masters else "Redis"
        workers = rate * costs.worker_us / 1e6 / USABLE_SHARE
        yield _row((masters, nodes, f"{by_nodes:,.0f}", f"{by_masters:,.0f}", f"{rate:,.0f}", wall, f"{workers:.1f}"))
    per_master = costs.nodes_us(MANY_NODES) / costs.all_redis_us(MANY_NODES)
    yield f"\nSo of many nodes one Redis carries {per_master:.1f}."


def _memory(costs: Costs) -> Iterator[str]:
    yield "What the memory of Redis carries, day and night, at a retention:\n"
    yield from _table(("retention", *(f"{size} GB in all masters" for size in MEMORIES_GB)))
    for name, seconds in RETENTIONS:
        rates = [size * 1e9 / costs.finished_bytes / seconds for size in MEMORIES_GB]
        yield _row((name, *(f"{rate:,.0f} flows/s" for rate in rates)))


def _check(benchmarks: Benchmarks, costs: Costs) -> Iterator[str]:
    yield f"Measured here, everything on {os.cpu_count()} cores; CPU in us a flow:\n"
    yield from _table(("masters", "nodes", "flows/s", "cores in use", "nodes", "formula", "Redis", "formula"))
    runs = [(1, nodes, NODES, f"burst, 64 partitions, {nodes} nodes", f"  {nodes} nodes") for nodes in (1, 2, 3)]
    for masters, nodes in ((1, 1), (3, 1), (3, 2)):
        name = f"{masters} masters, {nodes} nodes"
        runs.append((masters, nodes, MASTERS, f"burst, {name}", f"  {name}"))
    for masters, nodes, benchmark, rate, name in runs:
        cells = (
            f"{value(benchmarks, benchmark, rate):,.0f}",
            f"{value(benchmarks, benchmark, f'{name}: cores in use'):.2f}",
            f"{value(benchmarks, benchmark, f'{name}: CPU of all nodes'):.0f}",
            f"{costs.nodes_us(nodes):.0f}",
            f"{value(benchmarks, benchmark, f'{name}: CPU of Redis'):.0f}",
            f"{costs.all_redis_us(nodes):.0f}",
        )
        yield _row((masters, nodes, *cells))
    shares = [value(benchmarks, MASTERS, f"  3 masters, 2 nodes: CPU of master {number}") for number in (1, 2, 3)]
    yield "\nThe first three rows were measured turn and turn about (partitions), the others too (redis-cluster)."
    yield f"With 2 nodes the three masters took {', '.join(f'{share:.0f}' for share in shares)} us a flow."


def _table(heads: Sequence[str]) -> Iterator[str]:
    yield _row(heads)
    yield _row(["---"] * len(heads))


def _row(cells: Sequence[object]) -> str:
    return f"| {' | '.join(map(str, cells))} |"


if __name__ == "__main__":
    print(write(json.loads(RESULTS.read_text())["benchmarks"]) or "some of the benchmarks have not been run")
