"""`python -m orchy [serve] [flags]`: a server, until a signal stops it."""

from __future__ import annotations

import argparse
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import trio

from orchy import __version__
from orchy.commands import EXIT_FAILURE, EXIT_OK, EXIT_USAGE, SUBCOMMANDS
from orchy.errors import ConfigurationError, StartupError, StoreError
from orchy.runtime.nurseries import first_error
from orchy.server.config import SETTINGS, Config, load, read_file
from orchy.telemetry.logs import set_up

log = logging.getLogger("orchy")


def make_parser() -> argparse.ArgumentParser:
    """The command line of a server, whose help also lists the other subcommands."""
    subcommands = "\n".join(f"  {name:8} {subcommand.help}" for name, subcommand in SUBCOMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="python -m orchy",
        usage="python -m orchy [SUBCOMMAND] [flags]",
        description="A distributed, fault-tolerant workflow orchestrator."
        " Without flags: one node with a store of its own."
        f"\n\nsubcommands (each has a --help):\n{subcommands}",
        epilog="Every flag also reads a variable (--http-port: ORCHY_HTTP_PORT) and a key of the file that\n"
        "--config-file names (http-port); a flag beats the environment, which beats the file.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"orchy {__version__}")
    parser.add_argument("--config-file", metavar="PATH", help="a TOML file with these settings [ORCHY_CONFIG_FILE]")
    groups = {name: parser.add_argument_group(name) for name in dict.fromkeys(setting.group for setting in SETTINGS)}
    for setting in SETTINGS:
        default = f" (default: {setting.default})" if setting.default is not None else ""
        flag = groups[setting.group].add_argument(
            setting.flag,
            dest=setting.name,
            metavar=setting.metavar,
            action="append" if setting.repeats else "store",
            help=f"{setting.help}{default}".replace("%", "%%"),
        )
        if setting.name == "redis-tls":
            flag.nargs, flag.const = "?", "true"
    return parser


def configure(argv: Sequence[str]) -> Config:
    """The settings from command line, environment and file. Raises ConfigurationError; exits for --help."""
    flags = vars(make_parser().parse_args(argv))
    path = flags.pop("config_file") or os.environ.get("ORCHY_CONFIG_FILE")
    file = read_file(Path(path)) if path else None
    return load(flags, os.environ, file, socket.gethostname())


async def _serve(config: Config) -> None:
    shutdown, started = trio.Event(), trio.Event()
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        from orchy.server.node import Addresses, run_node  # slow, so only when signals are already handled

        async with trio.open_nursery() as nursery:

            async def stop_on_signal() -> None:
                async for _ in signals:
                    if not started.is_set():
                        log.info("stopping: it had not started to serve")
                    if shutdown.is_set() or not started.is_set():  # a second signal, or nothing to drain: stop at once
                        nursery.cancel_scope.cancel()
                    shutdown.set()

            async def run(task_status: trio.TaskStatus[Addresses]) -> None:
                await run_node(config, shutdown=shutdown, task_status=task_status)
                nursery.cancel_scope.cancel()

            nursery.start_soon(stop_on_signal)
            addresses: Addresses = await nursery.start(run)
            started.set()
            _tune_garbage_collector()
            log.info(
                "node %s serves REST on http://%s and workers on %s", config.node_name, addresses.http, addresses.grpc
            )


def _tune_garbage_collector() -> None:
    """Look for cycles seldom, and never among the objects that live as long as the server.

    Reference counts free what a step allocates, and cached flows are many and long-lived. With Python's own thresholds
    a burst spent a fifth of its time on traversing them, in pauses of 50 ms.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def run(argv: Sequence[str]) -> int:
    """Run a server; the exit code is 0 after a drained stop."""
    before = {number: signal.signal(number, _leave) for number in (signal.SIGTERM, signal.SIGINT)}
    try:  # from here on a signal ends the process with 0; the event loop, once it runs, receives them itself
        config = configure(argv)
        set_up(config.log_level, config.log_format)
        trio.run(_serve, config)
    except BaseException as raised:
        return _exit_code(first_error(raised) if isinstance(raised, BaseExceptionGroup) else raised)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return EXIT_OK


def _leave(number: int, frame: object) -> NoReturn:
    """The handler of signals that come before there is anything to stop."""
    sys.exit(EXIT_OK)


def _exit_code(error: BaseException) -> int:
    """Report what went wrong; only a bug of ours gets a traceback."""
    if isinstance(error, ConfigurationError):
        return _complain(error, EXIT_USAGE)
    if isinstance(error, StartupError | StoreError):
        return _complain(error, EXIT_FAILURE)
    if isinstance(error, SystemExit):  # by `_leave`, or by the parser of the command line
        return error.code if isinstance(error.code, int) else EXIT_OK
    if not isinstance(error, KeyboardInterrupt):
        log.critical("an error that nobody foresaw", exc_info=error)
    return EXIT_FAILURE


def _complain(error: Exception, code: int) -> int:
    for line in str(error).splitlines():
        print(f"orchy: {line}", file=sys.stderr)
    return code
