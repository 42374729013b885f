"""Callbacks to which nothing is attached yet."""

from __future__ import annotations


def ignore(*_: object) -> None:
    """Do nothing. The default of a callback that the composition root may set."""
