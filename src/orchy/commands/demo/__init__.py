"""`python -m orchy demo`: a server and a worker, three flows of a real workflow, each step as it happens."""

from orchy.commands.demo.run import run_demo

__all__ = ["run_demo"]
