"""`python -m orchy demo`: a server and a worker, three flows of a real workflow, each step as it happens."""

from orchy.demo.run import run_demo

__all__ = ["run_demo"]
