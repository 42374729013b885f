"""`python -m orchy verify`: reads a namespace, and says what does not add up. Changes nothing."""

from orchy.commands.verify.command import run_verify

__all__ = ["run_verify"]
