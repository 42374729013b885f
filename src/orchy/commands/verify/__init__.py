"""`python -m orchy verify`: reads a namespace, and says what does not add up. Changes nothing."""

from orchy.commands.verify.command import make_parser, run

__all__ = ["make_parser", "run"]
