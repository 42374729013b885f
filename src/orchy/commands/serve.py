"""`python -m orchy [flags]`: a server, until a signal stops it."""

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
from orchy.errors import ConfigurationError, StartupError, StoreError
from orchy.runtime.nurseries import first_error
from orchy.server.config import SETTINGS, Config, load, read_file
from orchy.telemetry.logs import set_up

EXIT_OK, EXIT_FAILURE, EXIT_USAGE = 0, 1, 2

_GROUPS = {
    "cluster": "cluster",
    "listeners": "listeners",
    "store": "store",
    "engine": "engine",
    "log": "logging",
}

log = logging.getLogger("orchy")


def make_parser() -> argparse.ArgumentParser:
    """The flags of a server."""
    parser = argparse.ArgumentParser(
        prog="python -m orchy",
        description="A distributed, fault-tolerant workflow orchestrator."
        " Without flags: one node with a store of its own.",
        epilog="Every flag also reads a variable (--http-port: ORCHY_HTTP_PORT) and a key of the file that"
        " --config-file names (http-port); a flag beats the environment, which beats the file."
        " `python -m orchy demo` starts a server and a worker and shows a workflow run; `python -m orchy verify` reads"
        " what a cluster keeps in Redis and says what does not add up.",
    )
    parser.add_argument("--version", action="version", version=f"orchy {__version__}")
    parser.add_argument("--config-file", metavar="PATH", help="a TOML file with these settings [ORCHY_CONFIG_FILE]")
    groups = {name: parser.add_argument_group(title) for name, title in _GROUPS.items()}
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
    """The settings that command line, environment and file make. Raises ConfigurationError; exits for --help."""
    flags = vars(make_parser().parse_args(argv))
    path = flags.pop("config_file") or os.environ.get("ORCHY_CONFIG_FILE")
    file = read_file(Path(path)) if path else None
    return load(flags, os.environ, file, socket.gethostname())


async def _serve(config: Config) -> None:
    shutdown, started = trio.Event(), trio.Event()
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        from orchy.server.node import Addresses, run_node  # takes a while: a signal meanwhile is heard

        async with trio.open_nursery() as nursery:

            async def stop_on_signal() -> None:
                async for _ in signals:
                    if not started.is_set():
                        log.info("stopping: it had not started to serve")
                    if shutdown.is_set() or not started.is_set():  # asked twice, or nothing to drain: now
                        nursery.cancel_scope.cancel()
                    shutdown.set()

            async def run(task_status: trio.TaskStatus[Addresses]) -> None:
                await run_node(config, shutdown=shutdown, task_status=task_status)
                nursery.cancel_scope.cancel()

            nursery.start_soon(stop_on_signal)
            addresses: Addresses = await nursery.start(run)
            started.set()
            _calm_garbage_collector()
            log.info(
                "node %s serves REST on http://%s and workers on %s", config.node_name, addresses.http, addresses.grpc
            )


def _calm_garbage_collector() -> None:
    """Look for cycles seldom, and not in what a server has from its start to its end.

    What a step makes is freed by its reference counts; flows that are kept at hand are long-lived and many. With
    Python's own thresholds a burst spent a fifth of its time on looking through them, in pauses of 50 ms.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def serve(argv: Sequence[str]) -> int:
    """Be a server; the exit code."""
    before = {number: signal.signal(number, _leave) for number in (signal.SIGTERM, signal.SIGINT)}
    try:  # from here on a signal ends it with 0; the event loop, once it runs, hears them by itself
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
    """A signal before there is anything to stop."""
    sys.exit(EXIT_OK)


def _exit_code(error: BaseException) -> int:
    """What went wrong, said to the operator; a traceback only for what is a bug of ours."""
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
