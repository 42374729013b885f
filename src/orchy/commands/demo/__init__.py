"""`python -m orchy demo`: a server and a worker, three flows of a real workflow, each step as it happens."""

from orchy.commands.demo.command import make_parser, run

__all__ = ["make_parser", "run"]
