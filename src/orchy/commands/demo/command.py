"""The command line of `python -m orchy demo`."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack

import trio

from orchy.commands import EXIT_FAILURE, EXIT_OK
from orchy.commands.demo.processes import DemoServer, open_server, open_worker
from orchy.commands.demo.rest import RestClient
from orchy.commands.demo.scenarios import POLL_SECONDS, Demo
from orchy.runtime.nurseries import first_error

LIMIT_SECONDS = 60.0
#: How long the worker's last messages may take after the flows have ended.
LAST_MESSAGES_SECONDS = 2.0
#: In the middle of the flows.
KILL_AFTER_SECONDS = 0.8
NODES_MAX = 9
#: As shells report a process that SIGINT has ended.
EXIT_INTERRUPTED = 130


def make_parser() -> argparse.ArgumentParser:
    """The flags of the demo."""
    parser = argparse.ArgumentParser(
        prog="python -m orchy demo",
        description="Starts a server with a store of its own and a worker, and shows three flows of a real workflow.",
    )
    parser.add_argument("--redis-addr", metavar="HOST:PORT[,...]", help="use this Redis, or Redis Cluster, instead")
    parser.add_argument("--namespace", default="orchy-demo", help="prefix of the keys there (default: %(default)s)")
    parser.add_argument(
        "--nodes",
        type=int,
        default=1,
        choices=range(1, NODES_MAX + 1),
        metavar="N",
        help="start so many servers, and kill one in the middle (default: %(default)s)",
    )
    return parser


def run(argv: Sequence[str]) -> int:
    """Run the demo; the exit code is 0 only if each flow went as it should."""
    options = make_parser().parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="orchy-demo-") as data_dir:
        flags = ["--namespace", options.namespace, "--data-dir", data_dir]
        if options.redis_addr:
            flags += ["--redis-addr", options.redis_addr]
        try:
            good = trio.run(_run, flags, options.nodes)
        except KeyboardInterrupt:
            return EXIT_INTERRUPTED
        except BaseExceptionGroup as group:
            error = first_error(group)
            if not isinstance(error, RuntimeError | OSError):
                raise
            print(f"orchy demo: {error}", file=sys.stderr)
            return EXIT_FAILURE
    print("All went as it should." if good else "Something did not go as it should.")
    return EXIT_OK if good else EXIT_FAILURE


async def _run(flags: Sequence[str], nodes: int) -> bool:
    demo = Demo()
    print(
        f"Starting {nodes} servers and a worker ..." if nodes > 1 else "Starting a server and a worker ...", flush=True
    )
    with trio.move_on_after(LIMIT_SECONDS) as limit:
        async with AsyncExitStack() as stack:
            servers: list[DemoServer] = []
            for number in range(1, nodes + 1):
                joins = ["--cluster-address", servers[0].gossip] if servers else []
                server = await stack.enter_async_context(
                    open_server([*flags, "--gossip-profile", "fast", *joins], f"demo{number}")
                )
                servers.append(server)
            if nodes > 1:
                await _wait_until_balanced(servers[0].rest, nodes)
            await stack.enter_async_context(open_worker(servers[0].workers, demo.on_sent))
            print("Three flows of notificationWorkflow: one to a man, two to women of whom one opens her mail.\n")
            async with trio.open_nursery() as nursery:
                if nodes > 1:
                    nursery.start_soon(_kill_one, servers[0].rest, servers[-1], nodes)
                await demo.play(servers[0].rest)
            with trio.move_on_after(LAST_MESSAGES_SECONDS):
                while not demo.good:
                    await trio.sleep(POLL_SECONDS)
            demo.print_lines()
    if limit.cancelled_caught:
        print(f"\nNot done after {LIMIT_SECONDS:.0f} s.")
    print(f"\n{demo.summary()}\n")
    return not limit.cancelled_caught and demo.good


async def _wait_until_balanced(rest: RestClient, nodes: int) -> None:
    """Until this many nodes hold the same number of partitions, give or take one."""
    while True:
        partitions = (await rest.get("/cluster"))["partitions"]
        owners = Counter(partition["owner"] or "nobody" for partition in partitions)
        if len(owners) == nodes and "nobody" not in owners and max(owners.values()) - min(owners.values()) <= 1:
            break
        await trio.sleep(POLL_SECONDS)
    print("Partitions: " + ", ".join(f"{node} {count}" for node, count in sorted(owners.items())), flush=True)


async def _kill_one(rest: RestClient, victim: DemoServer, nodes: int) -> None:
    """Kill a server with SIGKILL, and wait until the others hold its partitions."""
    await trio.sleep(KILL_AFTER_SECONDS)
    victim.process.kill()
    began = trio.current_time()
    print(f"{'':>8}  {victim.node} is killed", flush=True)
    await _wait_until_balanced(rest, nodes - 1)
    print(f"{'':>8}  owned again {trio.current_time() - began:.1f} s after the kill", flush=True)
