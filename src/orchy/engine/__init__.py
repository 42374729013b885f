"""Moves flows: loads, steps and commits them. The only package that writes flows."""

from orchy.engine.opening import Engine, EngineSettings, open  # noqa: A004

__all__ = ["Engine", "EngineSettings", "open"]
