"""The subcommands of `python -m orchy`: one module or package each, with `make_parser()` and `run(argv)`."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

#: What `run` returns, as the exit code of the process.
EXIT_OK, EXIT_FAILURE, EXIT_USAGE = 0, 1, 2


@attrs.frozen
class Subcommand:
    """`module` is imported only when the subcommand runs, `help` is its line in `python -m orchy --help`."""

    module: str
    help: str


#: By name. A new subcommand is one line here and one module.
SUBCOMMANDS: Mapping[str, Subcommand] = {
    "serve": Subcommand("orchy.commands.serve", "run a server, as without a subcommand"),
    "demo": Subcommand("orchy.commands.demo", "start a server and a worker, and show a workflow run"),
    "verify": Subcommand("orchy.commands.verify", "read what a cluster keeps in Redis and say what does not add up"),
}
