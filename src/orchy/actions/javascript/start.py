"""Starts a worker process: `python start.py ...`, with the arguments of `worker`.

The `__init__` modules of the worker's packages would import half of Orchy, and Trio. They are skipped here, so that a
worker imports only what it uses, is small and starts fast.
"""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from types import ModuleType


def bare_packages() -> None:
    """Register the packages without running their `__init__`."""
    folder = Path(__file__).resolve().parent
    for name, path in (
        ("orchy", folder.parent.parent),
        ("orchy.actions", folder.parent),
        ("orchy.actions.javascript", folder),
    ):
        package = ModuleType(name)
        package.__path__ = [str(path)]
        sys.modules[name] = package


if __name__ == "__main__":
    del sys.path[0]  # this folder, whose files are not top-level modules
    bare_packages()
    from orchy.actions.javascript.worker import main

    try:
        main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
    except BrokenPipeError:  # the parent is gone
        pass
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    # Skips the engine's clean-up: V8's may hang once a script has been stopped.
    os._exit(0)
