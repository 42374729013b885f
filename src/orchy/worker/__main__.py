"""`python -m orchy.worker MODULE:WORKER`: runs a worker that a module holds, with log lines on the standard error."""

from __future__ import annotations

import argparse
import importlib
import logging
import sys

from orchy.worker import Worker


def load(name: str) -> Worker:
    """The worker that "module:attribute" names; the attribute is `worker` if it is left out. Raises ValueError."""
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module is there, but what it imports is not: its traceback says it best
        raise ValueError(f"there is no module {module_name!r} here") from None
    worker = getattr(module, attribute or "worker", None)
    if not isinstance(worker, Worker):
        raise ValueError(f"{module_name!r} has no Worker named {attribute or 'worker'!r}")
    return worker


def main(arguments: list[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT. 0 after a clean stop, 2 if there is no such worker."""
    parser = argparse.ArgumentParser(prog="python -m orchy.worker", description="Run a worker of Orchy.")
    parser.add_argument("worker", metavar="MODULE:WORKER", help="where the Worker is, such as shop.actions:worker")
    parser.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"])
    options = parser.parse_args(arguments)
    logging.basicConfig(
        level=options.log_level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s"
    )
    sys.path.insert(0, "")
    try:
        load(options.worker).run()
    except ValueError as error:
        print(f"python -m orchy.worker: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
